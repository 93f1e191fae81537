# SPDX-License-Identifier: Apache-2.0

# What the build makes of the list in instruction_sets.cmake: for each op and each set that has kernels of it one object,
# and one header that says which those are.

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(PROCESSOR x86)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64|ARM64")
  set(PROCESSOR arm)
else()
  set(PROCESSOR none)
endif()

# The sets that this build compiles.
set(COMPILED_SETS)
foreach(name IN LISTS INSTRUCTION_SETS)
  if(PROCESSOR_${name} STREQUAL "any" OR PROCESSOR_${name} STREQUAL PROCESSOR)
    list(APPEND COMPILED_SETS ${name})
  endif()
endforeach()

# Sets `result` to true where `op` has kernels for the set.
function(has_kernels result op name)
  if(NOT name IN_LIST COMPILED_SETS OR (ONLY_${name} AND NOT op IN_LIST ONLY_${name}))
    set(${result} FALSE PARENT_SCOPE)
  else()
    set(${result} TRUE PARENT_SCOPE)
  endif()
endfunction()

# One source for one set: the op's kernel.<set>.cpp where there is one, else its kernel.cpp, told which set it is for.
function(add_kernel target op name)
  set(source ${OPS_DIR}/${op}/kernel.${name}.cpp)
  if(NOT EXISTS ${source})
    set(source ${CMAKE_CURRENT_BINARY_DIR}/kernels/${op}.${name}.cpp)
    file(CONFIGURE OUTPUT ${source} @ONLY CONTENT [[
// Written by CMake: @op@ for the instruction set @name@.
#define BITTERN_SET @name@
#include "@op@/kernel.cpp"
]])
  endif()
  target_sources(${target} PRIVATE ${source})
  set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${FLAGS_${name}}")
endfunction()

function(add_kernels target)
  foreach(op IN LISTS ARGN)
    foreach(name IN LISTS COMPILED_SETS)
      has_kernels(has ${op} ${name})
      if(has)
        add_kernel(${target} ${op} ${name})
      endif()
    endforeach()
  endforeach()
endfunction()

# Sets `result` to "true" or "false".
function(as_bool result)
  if(${ARGN})
    set(${result} true PARENT_SCOPE)
  else()
    set(${result} false PARENT_SCOPE)
  endif()
endfunction()

# The rows about one set in native/instruction_sets.h.in.
function(describe_set name)
  list(TRANSFORM NEEDS_${name} REPLACE "(.+)" "\"\\1\"" OUTPUT_VARIABLE needs)
  list(JOIN needs ", " needs)
  if(WITHIN_${name})
    string(APPEND PARTS "  ${name},\n")
    string(APPEND PART_ROWS "    {Part::${name}, {${needs}}},\n")
  else()
    as_bool(compiled name IN_LIST COMPILED_SETS)
    as_bool(on_request ON_REQUEST_${name})
    string(APPEND ISAS "  ${name} = ${NUMBER_${name}},\n")
    string(APPEND ISA_ROWS
           "    {Isa::${name}, \"${name}\", \"${PROCESSOR_${name}}\", ${compiled}, ${on_request}, {${needs}}},\n")
  endif()
  foreach(text IN ITEMS PARTS PART_ROWS ISAS ISA_ROWS)
    set(${text} "${${text}}" PARENT_SCOPE)
  endforeach()
endfunction()

# Whose kernels an op uses for each set: its own, or those of the nearest set behind.
function(describe_op op)
  set(choices)
  foreach(name IN LISTS COMPILED_SETS)
    has_kernels(has ${op} ${name})
    if(WITHIN_${name} AND has)
      list(PREPEND choices "PART(${WITHIN_${name}}, ${name}, __VA_ARGS__)") # asked before the set that it is within
    elseif(NOT WITHIN_${name})
      set(of ${name})
      while(NOT has)
        set(of ${BEHIND_${of}})
        has_kernels(has ${op} ${of})
      endwhile()
      list(APPEND choices "WHOLE(${name}, ${of}, __VA_ARGS__)")
    endif()
  endforeach()
  list(JOIN choices " \\\n  " choices)
  set(CHOICES "${CHOICES}#define BITTERN_CHOICES_${op}(WHOLE, PART, ...) \\\n  ${choices}\n" PARENT_SCOPE)
endfunction()

# Writes instruction_sets.h for these ops into the build folder.
function(write_instruction_sets)
  foreach(name IN LISTS INSTRUCTION_SETS)
    describe_set(${name})
  endforeach()
  foreach(op IN LISTS ARGN)
    describe_op(${op})
  endforeach()
  configure_file(native/instruction_sets.h.in kernels/instruction_sets.h @ONLY)
endfunction()
