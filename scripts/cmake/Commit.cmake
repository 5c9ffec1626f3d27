# Writes moegauge_commit.h with the commit of the source tree; runs at every build, writes only when it changed.
# Called as: cmake -DSOURCE=... -DOUTPUT=... -P Commit.cmake
set(commit "")
set(dirty 0)
find_program(GIT git)
if(GIT)
  execute_process(COMMAND ${GIT} -C ${SOURCE} rev-parse --short=12 HEAD
    OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  execute_process(COMMAND ${GIT} -C ${SOURCE} diff --quiet HEAD -- RESULT_VARIABLE differs OUTPUT_QUIET ERROR_QUIET)
  if(commit AND differs)
    set(dirty 1)
  endif()
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT
"/* Generated at build time. */
#define MG_BUILD_COMMIT \"${commit}\"
#define MG_BUILD_DIRTY ${dirty}
")
