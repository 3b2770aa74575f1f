# The cuda backend on the host, for tests without a device: the same sources, rewritten by translate.py and compiled as C++ beside
# headers that stand in for CUDA's (emulation.h says what that finds). Not for use: it is thousands of times slower than the cpu backend.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
set(EMULATION ${CMAKE_CURRENT_SOURCE_DIR}/test/native/cuda_emulation)
file(GLOB CUDA_SOURCES CONFIGURE_DEPENDS native/backend/cuda/*.cu)
set(TRANSLATED "")
foreach(source ${CUDA_SOURCES})
  get_filename_component(name ${source} NAME_WE)
  set(target ${CMAKE_CURRENT_BINARY_DIR}/cuda_emulation/${name}.cpp)
  add_custom_command(OUTPUT ${target} COMMAND Python3::Interpreter ${EMULATION}/translate.py ${source} ${target}
                     DEPENDS ${source} ${EMULATION}/translate.py VERBATIM)
  list(APPEND TRANSLATED ${target})
endforeach()
file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/cuda_emulation)
add_library(engine_cuda OBJECT ${TRANSLATED} ${EMULATION}/emulation.cpp ${EMULATION}/shared_memory.cpp ${EMULATION}/memory.cpp ${EMULATION}/graphs.cpp
            ${EMULATION}/dependencies.cpp)
set_target_properties(engine_cuda PROPERTIES UNITY_BUILD OFF)  # names of kernels' sizes are unique in a file
target_include_directories(engine_cuda BEFORE PRIVATE ${EMULATION}/include native)
target_compile_definitions(engine_cuda PRIVATE ARDIFF_CUDA_EMULATION=1 ARDIFF_CUDA_90A=1)
target_compile_options(engine_cuda PRIVATE -Wno-unknown-pragmas -Wno-shadow)
target_sources(engine PRIVATE $<TARGET_OBJECTS:engine_cuda>)
target_compile_definitions(engine PUBLIC ARDIFF_WITH_CUDA=1 ARDIFF_CUDA_EMULATION=1)
target_include_directories(engine INTERFACE ${EMULATION})
target_link_libraries(engine PUBLIC ${CMAKE_DL_LIBS})
# What the backend loads at run time when cuBLASLt is asked for; the second lacks a function.
add_library(fake_cublas_lt MODULE ${EMULATION}/fake_cublas_lt.cpp)
add_library(fake_cublas_lt_lacking MODULE ${EMULATION}/fake_cublas_lt.cpp)
target_compile_definitions(fake_cublas_lt_lacking PRIVATE cublasLtMatmul=cublasLtAnother)
target_include_directories(fake_cublas_lt PRIVATE ${EMULATION})
target_include_directories(fake_cublas_lt_lacking PRIVATE ${EMULATION})
