# GCC 12 finds restrict violations in its own std::string (GCC bug 105651).
# Designated initializers that leave members to their defaults are how options are given here.
add_library(twinstorm_warnings INTERFACE)
target_compile_options(twinstorm_warnings INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Woverloaded-virtual -Wimplicit-fallthrough -Wno-missing-field-initializers -Wno-restrict>
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${TWINSTORM_WERROR}>>:-Werror>)
