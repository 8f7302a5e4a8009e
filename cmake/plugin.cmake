# SPDX-License-Identifier: MIT
# peri_add_plugin(NAME source...) - a backend plugin.  It sees include/ only, like a stranger's.
function(peri_add_plugin name)
  add_library(perigee_plugin_${name} MODULE ${ARGN})
  target_include_directories(perigee_plugin_${name} PRIVATE ${PROJECT_SOURCE_DIR}/include)
  set_target_properties(perigee_plugin_${name} PROPERTIES PREFIX "" OUTPUT_NAME ${name}
                        LIBRARY_OUTPUT_DIRECTORY ${PERI_PLUGIN_OUTPUT})
  install(TARGETS perigee_plugin_${name}
          LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/${PERI_PLUGIN_SUBDIR})
endfunction()
