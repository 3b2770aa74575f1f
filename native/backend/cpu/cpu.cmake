# Debian's oneDNN config file asks for OpenCL headers, so header and library are looked for by hand.
find_path(DNNL_INCLUDE_DIR dnnl.hpp)
find_library(DNNL_LIBRARY dnnl)
find_package(OpenMP REQUIRED COMPONENTS CXX)
if(NOT DNNL_INCLUDE_DIR OR NOT DNNL_LIBRARY)
  message(FATAL_ERROR "oneDNN was not found (Debian: libdnnl-dev). Build with -DWITH_ONEDNN=OFF to leave the cpu backend out.")
endif()
file(GLOB CPU_SOURCES CONFIGURE_DEPENDS native/backend/cpu/*.cpp)
target_sources(engine PRIVATE ${CPU_SOURCES})
target_include_directories(engine PRIVATE ${DNNL_INCLUDE_DIR})
target_compile_definitions(engine PUBLIC ARDIFF_WITH_CPU=1)
target_link_libraries(engine PUBLIC ${DNNL_LIBRARY} OpenMP::OpenMP_CXX)

# The kernels once per instruction set, picked at run time (isa.cpp). gcc's AVX-512 headers read a deliberately
# uninitialized register and set off the warning that is off here (gcc bug 105593, fixed in gcc 13).
set(KERNEL_FLAGS "")
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(KERNEL_FLAGS "-Wno-maybe-uninitialized -Wno-uninitialized")
endif()
if(ARDIFF_SANITIZE)
  # Unrolled loops full of checks take minutes to compile, and to run. AddressSanitizer looks at every access as it is; a
  # misaligned one is not looked for in kernels.
  string(APPEND KERNEL_FLAGS " -fno-sanitize=null,alignment,object-size,pointer-overflow")
else()
  string(APPEND KERNEL_FLAGS " -O3")
endif()
set_source_files_properties(native/backend/cpu/kernels_generic.cpp PROPERTIES COMPILE_FLAGS "${KERNEL_FLAGS}")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(AVX512_FLAGS "${KERNEL_FLAGS} -mfma -mavx512f -mavx512bw -mavx512vl -mavx512dq")
  set_source_files_properties(native/backend/cpu/kernels_avx2.cpp PROPERTIES COMPILE_FLAGS "${KERNEL_FLAGS} -mfma -mavx2")
  set_source_files_properties(native/backend/cpu/kernels_avx512.cpp PROPERTIES COMPILE_FLAGS "${AVX512_FLAGS}")
  set_source_files_properties(native/backend/cpu/kernels_avx512_bf16.cpp PROPERTIES COMPILE_FLAGS "${AVX512_FLAGS} -mavx512bf16")
endif()
