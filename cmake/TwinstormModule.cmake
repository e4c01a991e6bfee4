# twinstorm_module(<name> DEPS <targets...>)
#
# One static library per module folder: every *.cpp below the current folder (but `exclude`d folders that are modules of
# their own). Headers sit beside the sources and are included from the repository root. The dependency list is the whole
# truth about what the module may use; tests/architecture checks the #include lines against the same table.
function(twinstorm_module name)
  cmake_parse_arguments(M "" "" "DEPS;EXCLUDE" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  foreach(folder IN LISTS M_EXCLUDE)
    list(FILTER sources EXCLUDE REGEX "^${CMAKE_CURRENT_SOURCE_DIR}/${folder}/")
  endforeach()
  if(sources)
    add_library(${name} STATIC ${sources})
    target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
    target_link_libraries(${name} PUBLIC ${M_DEPS} PRIVATE twinstorm_warnings)
  else()
    add_library(${name} INTERFACE)
    target_include_directories(${name} INTERFACE ${CMAKE_SOURCE_DIR})
    target_link_libraries(${name} INTERFACE ${M_DEPS})
  endif()
  add_library(twinstorm::${name} ALIAS ${name})
endfunction()

# twinstorm_test(<name> LABEL <unit|integration|interop|e2e|golden|architecture> DEPS <targets...> [TIMEOUT seconds]
#                [SERIAL])
#
# One GoogleTest program from every *.cpp in the current folder; each TEST becomes a ctest case with the label. SERIAL:
# no other case runs beside one of these (they measure time).
function(twinstorm_test name)
  cmake_parse_arguments(T "SERIAL" "LABEL;TIMEOUT" "DEPS" ${ARGN})
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 60)
  endif()
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  add_executable(${name} ${sources})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${T_DEPS} GTest::gtest GTest::gmock GTest::gtest_main twinstorm_warnings)
  target_compile_definitions(${name} PRIVATE TWINSTORM_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
                                             TWINSTORM_BINARY="$<TARGET_FILE:twinstorm>")
  include(GoogleTest)
  gtest_discover_tests(${name} PROPERTIES LABELS ${T_LABEL} TIMEOUT ${T_TIMEOUT} RUN_SERIAL ${T_SERIAL}
                       DISCOVERY_TIMEOUT 60)
endfunction()
