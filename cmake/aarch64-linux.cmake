# SPDX-License-Identifier: Apache-2.0

# Cross-compiles for 64-bit ARM Linux with Debian's g++-aarch64-linux-gnu; `make neon` runs the result under qemu-user.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
