/* SPDX-License-Identifier: MIT
 *
 * bad_abi_note.c - its note says another ABI; its constructor must never run. */
#include "fake.h"

__attribute__((constructor)) static void crash(void) {
    __builtin_trap();
}

FAKE_TABLE("abi_note", fake_device, fake_open, fake_run)
PERI_PLUGIN_NOTE("abi=7.0 name=abi_note arch=any needs=");
