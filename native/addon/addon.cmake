# The Node addon. cmake-js passes Node's headers (node-api-headers, because package.json names napi_versions).
execute_process(COMMAND node -p "require('node-addon-api').include_dir" WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
                OUTPUT_VARIABLE NODE_ADDON_API_DIR OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
if(NOT IS_ABSOLUTE "${NODE_ADDON_API_DIR}")
  set(NODE_ADDON_API_DIR "${CMAKE_SOURCE_DIR}/${NODE_ADDON_API_DIR}")
endif()
file(GLOB ADDON_SOURCES CONFIGURE_DEPENDS native/addon/*.cpp)
add_library(fast_ardiff SHARED ${ADDON_SOURCES} ${CMAKE_JS_SRC})
set_target_properties(fast_ardiff PROPERTIES PREFIX "" SUFFIX ".node")
target_include_directories(fast_ardiff SYSTEM PRIVATE ${CMAKE_JS_INC} ${NODE_ADDON_API_DIR})
target_compile_definitions(fast_ardiff PRIVATE NAPI_VERSION=8 NODE_ADDON_API_CPP_EXCEPTIONS)
target_link_libraries(fast_ardiff PRIVATE engine ${CMAKE_JS_LIB})
