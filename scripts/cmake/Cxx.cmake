# For a folder with sources in C++: mg_enable_cxx(WHAT) turns the language on for it, or says that WHAT is left out and leaves
# CMAKE_CXX_COMPILER unset. A macro, since a language is known where it was enabled.
include(CheckLanguage)
macro(mg_enable_cxx what)
  check_language(CXX)
  if(CMAKE_CXX_COMPILER)
    enable_language(CXX)
    set(CMAKE_CXX_STANDARD 17)
    # Some warnings exist for C only.
    get_directory_property(mg_warnings COMPILE_OPTIONS)
    list(TRANSFORM mg_warnings
      REPLACE "^(-Wstrict-prototypes|-Wmissing-prototypes)$" "$<$<COMPILE_LANGUAGE:C>:\\1>")
    set_directory_properties(PROPERTIES COMPILE_OPTIONS "${mg_warnings}")
  else()
    message(STATUS "${what} left out: a C++ compiler is needed")
  endif()
endmacro()
