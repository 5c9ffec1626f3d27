# The three kinds of target: a layer of the core, a plugin, a test.

# mg_layer(NAME [LIBS ...]): core/NAME/*.c as one object library. Its includes are checked by tests/layers.
function(mg_layer name)
  cmake_parse_arguments(ARG "" "" "LIBS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${name}/*.c)
  list(FILTER sources EXCLUDE REGEX "/cli/main\\.c$")
  if(NOT sources)
    return()
  endif()
  add_library(moegauge_${name} OBJECT ${sources})
  target_include_directories(moegauge_${name} PUBLIC ${CMAKE_SOURCE_DIR}/core/include ${CMAKE_SOURCE_DIR}/core)
  target_link_libraries(moegauge_${name} PUBLIC ${ARG_LIBS})
  set_property(GLOBAL APPEND PROPERTY MG_LAYERS moegauge_${name})
endfunction()

# mg_plugin(KIND NAME SOURCES ... [LIBS ...] [OPTIONS ...]): lib/moegauge/KIND/NAME.so, and the same sources as the object
# library moegauge_KIND_NAME, which tests link. KIND is routers or backends.
function(mg_plugin kind name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBS;OPTIONS" ${ARGN})
  add_library(${kind}_${name} MODULE ${ARG_SOURCES})
  set_target_properties(${kind}_${name} PROPERTIES PREFIX "" OUTPUT_NAME ${name}
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib/moegauge/${kind}
    INSTALL_RPATH "$ORIGIN/../.." BUILD_RPATH "$ORIGIN/../..")
  target_link_libraries(${kind}_${name} PRIVATE moegauge m ${ARG_LIBS})
  if(NOT MG_SANITIZE)
    target_link_options(${kind}_${name} PRIVATE -Wl,-z,defs -Wl,--exclude-libs,ALL)
  endif()
  install(TARGETS ${kind}_${name} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/moegauge/${kind})

  add_library(moegauge_${kind}_${name} OBJECT ${ARG_SOURCES})
  target_include_directories(moegauge_${kind}_${name} PUBLIC ${CMAKE_SOURCE_DIR}/core/include)
  target_compile_definitions(moegauge_${kind}_${name} PRIVATE MG_PLUGIN_STATIC=mg_static_${kind}_${name})
  target_link_libraries(moegauge_${kind}_${name} PUBLIC ${ARG_LIBS} m)
  foreach(target ${kind}_${name} moegauge_${kind}_${name})
    target_compile_options(${target} PRIVATE ${ARG_OPTIONS})
  endforeach()
  set_property(GLOBAL APPEND PROPERTY MG_STATIC_PLUGINS ${kind}_${name})
endfunction()

# mg_test(NAME SOURCES ... [LIBS ...] [LABELS ...]): a cmocka program over the static core and all plugins linked in.
function(mg_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_link_libraries(${name} PRIVATE moegauge_testing ${ARG_LIBS})
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 300
    ENVIRONMENT "MOEGAUGE_BUILD=${CMAKE_BINARY_DIR};MOEGAUGE_SOURCE=${CMAKE_SOURCE_DIR};OMP_NUM_THREADS=2;OMP_WAIT_POLICY=passive")
endfunction()
