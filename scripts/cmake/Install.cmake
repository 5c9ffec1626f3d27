# What `cmake --install` puts where: the program, the library, headers, plugins, the CMake package, man pages and
# completion. Plugins lie in <libdir>/moegauge/{routers,backends}, where the library looks for them.
include(CMakePackageConfigHelpers)

install(TARGETS moegauge EXPORT moegaugeTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY core/include/moegauge DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

file(STRINGS core/include/moegauge/api.h abi REGEX "define MG_ABI ")
string(REGEX MATCH "[0-9]+" MG_ABI "${abi}")
set(MG_PLUGIN_DIR ${CMAKE_INSTALL_LIBDIR}/moegauge)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/moegauge)
install(EXPORT moegaugeTargets NAMESPACE moegauge:: DESTINATION ${package_dir})
configure_package_config_file(scripts/cmake/moegaugeConfig.cmake.in ${CMAKE_BINARY_DIR}/moegaugeConfig.cmake
  INSTALL_DESTINATION ${package_dir} PATH_VARS MG_PLUGIN_DIR)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/moegaugeConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/moegaugeConfig.cmake ${CMAKE_BINARY_DIR}/moegaugeConfigVersion.cmake
  DESTINATION ${package_dir})

# `moegauge bench` starts it from beside the program.
if(TARGET moegauge_bench)
  install(TARGETS moegauge_bench RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

# The Lua library where the engine looks for it, and the experiments.
install(DIRECTORY scripts/moegauge DESTINATION ${CMAKE_INSTALL_DATADIR}/moegauge FILES_MATCHING PATTERN "*.lua")
install(DIRECTORY experiments DESTINATION ${CMAKE_INSTALL_DATADIR}/moegauge FILES_MATCHING PATTERN "*.lua")

# Man pages and completion are what the program says about itself.
install(CODE "
  set(program \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}/moegauge\")
  set(share \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_DATADIR}\")
  function(save file)
    execute_process(COMMAND \${program} \${ARGN} OUTPUT_VARIABLE text RESULT_VARIABLE failed)
    if(failed)
      message(WARNING \"\${file} was not written: the program does not run here\")
      return()
    endif()
    file(WRITE \${share}/\${file} \"\${text}\")
    message(STATUS \"Installing: \${share}/\${file}\")
  endfunction()
  save(man/man1/moegauge.1 help --man)
  save(bash-completion/completions/moegauge completion bash)
  save(zsh/site-functions/_moegauge completion zsh)
  save(fish/vendor_completions.d/moegauge.fish completion fish)
")
