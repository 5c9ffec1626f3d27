# gpu_plugin(NAME COMPILER ... [FLAGS ...] [INCLUDES ...] [LIBS ...] ARCHITECTURES TEXT): the plugin NAME from backends/gpu
# and the calling folder's gpu_vendor.h. Each kernel file goes through COMPILER, a command line without files; the rest is C.
function(gpu_plugin name)
  cmake_parse_arguments(ARG "" "ARCHITECTURES" "COMPILER;FLAGS;INCLUDES;LIBS" ${ARGN})
  set(gpu ${CMAKE_SOURCE_DIR}/backends/gpu)
  file(GLOB kernels CONFIGURE_DEPENDS ${gpu}/*.cpp)
  file(GLOB sources CONFIGURE_DEPENDS ${gpu}/*.c ${CMAKE_CURRENT_SOURCE_DIR}/*.c)
  set(objects "")
  foreach(kernel ${kernels})
    get_filename_component(stem ${kernel} NAME_WE)
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${stem}.o)
    add_custom_command(OUTPUT ${object} DEPENDS ${kernel} DEPFILE ${object}.d
      COMMAND ${ARG_COMPILER} -I${CMAKE_SOURCE_DIR}/core/include -I${gpu} -I${CMAKE_CURRENT_SOURCE_DIR} -MD -MF ${object}.d
              -c ${kernel} -o ${object}
      COMMENT "Building ${name} kernels ${stem}.cpp" VERBATIM)
    list(APPEND objects ${object})
  endforeach()
  set(archive ${CMAKE_CURRENT_BINARY_DIR}/libkernels.a)
  add_custom_command(OUTPUT ${archive} DEPENDS ${objects} COMMAND ${CMAKE_COMMAND} -E rm -f ${archive}
    COMMAND ${CMAKE_AR} qcs ${archive} ${objects} VERBATIM)
  add_custom_target(${name}_kernels DEPENDS ${archive})

  mg_plugin(backends ${name} UNLINKED SOURCES ${sources} OPTIONS ${ARG_FLAGS} LIBS ${archive} ${ARG_LIBS} m)
  add_dependencies(backends_${name} ${name}_kernels)
  set_target_properties(backends_${name} PROPERTIES LINK_DEPENDS ${archive})
  target_include_directories(moegauge_backends_${name} PRIVATE ${gpu} ${CMAKE_CURRENT_SOURCE_DIR})
  target_include_directories(moegauge_backends_${name} SYSTEM PRIVATE ${ARG_INCLUDES})
  target_compile_definitions(moegauge_backends_${name} PRIVATE GPU_ARCHITECTURES="${ARG_ARCHITECTURES}")
endfunction()

# gpu_blas_flags(OUT NAME WORDS INCLUDE LIBRARY): the flags with which vendor_blas.c of the plugin NAME loads the vendor's
# library of matrix products when a device is opened; none, and a line that says so, where its header or it was not found.
function(gpu_blas_flags out name words include library)
  set(${out} "" PARENT_SCOPE)
  if(NOT include OR NOT library)
    message(STATUS "The backend ${name} multiplies by its own kernels: ${words} was not found")
    return()
  endif()
  get_filename_component(file ${library} REALPATH)
  get_filename_component(file ${file} NAME)
  string(REGEX MATCH "^[^.]*[.]so[.][0-9]+" file ${file})
  set(${out} -DGPU_BLAS_LIBRARY="${library}" -DGPU_BLAS_NAME="${file}" PARENT_SCOPE)
endfunction()

# gpu_left_out(NAME WORDS): says why the plugin is not built, now and in the list of tests.
function(gpu_left_out name words)
  message(STATUS "The backend ${name} is left out: ${words}")
  set_property(GLOBAL PROPERTY MG_LEFT_OUT_${name} "${words}")
endfunction()
