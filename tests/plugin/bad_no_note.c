/* SPDX-License-Identifier: MIT
 *
 * bad_no_note.c - a table without a note. */
#include "fake.h"

FAKE_TABLE("no_note", fake_device, fake_open, fake_run)
