# SPDX-License-Identifier: MIT
# Toolchain for 64-bit ARM from another machine: Debian's gcc-aarch64-linux-gnu.  Where qemu-user is installed, what is
# built runs under it, on the processor that PERI_QEMU_CPU names (`qemu-aarch64 -cpu help`), when tests start it.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(PERI_QEMU_CPU max CACHE STRING "processor that qemu-aarch64 emulates")
find_program(PERI_QEMU NAMES qemu-aarch64 qemu-aarch64-static)
if(PERI_QEMU)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${PERI_QEMU} -L /usr/aarch64-linux-gnu -cpu ${PERI_QEMU_CPU})
endif()
