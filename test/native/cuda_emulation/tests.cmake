# What is tested in emulation alone. Paths are those of test/native.

# The emulation itself.
add_executable(cuda_emulation_test cuda_emulation/cuda_emulation_test.cpp)
target_include_directories(cuda_emulation_test BEFORE PRIVATE cuda_emulation/include)
target_link_libraries(cuda_emulation_test PRIVATE engine GTest::gtest GTest::gtest_main)
add_dependencies(native_tests cuda_emulation_test)
add_test(NAME cuda_emulation_test COMMAND cuda_emulation_test)
set_tests_properties(cuda_emulation_test PROPERTIES ENVIRONMENT "GTEST_OUTPUT=json:${CMAKE_BINARY_DIR}/reports/cuda_emulation_test.json")

# The emulation's cuBLASLt, and TransDiff with it: all of its pictures' layers, within PyTorch's error and the same bytes in every batch.
target_compile_definitions(engine_tests PRIVATE ARDIFF_FAKE_CUBLAS_LT="$<TARGET_FILE:fake_cublas_lt>"
                           ARDIFF_FAKE_CUBLAS_LT_LACKING="$<TARGET_FILE:fake_cublas_lt_lacking>")
add_dependencies(native_tests fake_cublas_lt fake_cublas_lt_lacking)
set(fake "ARDIFF_CUDA_BLASLT=$<TARGET_FILE:fake_cublas_lt>")
set(transdiff_goldens "*GoldenBfloat16*transdiff*cuda*")
set(transdiff_batches "*TransDiffEngineTest*SameBits*cuda_bfloat16*")
add_native_test(cuda_cublas_lt_golden_test "${transdiff_goldens}" ${fake})
add_native_test(cuda_cublas_lt_engine_test "${transdiff_batches}" ${fake})

# Convolutions as devices before 9.0 make them, and the warpgroups' kernels once more with threads and copies in another order.
add_native_test(cuda_older_conformance_test "*OpConformance.*Conv*cuda_bfloat16*" ARDIFF_CUDA_WGMMA=0)
suites_of(${CMAKE_CURRENT_SOURCE_DIR}/cuda/cuda_warpgroup_test.cpp warpgroups)
add_native_test(cuda_shuffled_warpgroup_test "${warpgroups}" CUDA_EMULATION_SEED=7)

# Tiled contexts without the kernel that is theirs, where those are: ops, and TransDiff's pictures.
set(untiled ARDIFF_CUDA_TILED=0)
add_native_test(cuda_untiled_conformance_test "*OpConformance.*TiledAttention*cuda_bfloat16" ${untiled})
add_native_test(cuda_untiled_invariance_test "*Invariance.*Tiled*cuda_bfloat16" ${untiled})
add_native_test(cuda_untiled_golden_test "${transdiff_goldens}" ${untiled})
add_native_test(cuda_untiled_engine_test "${transdiff_batches}" ${untiled})
