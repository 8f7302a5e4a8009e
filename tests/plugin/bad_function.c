/* SPDX-License-Identifier: MIT
 *
 * bad_function.c - lacks a required function. */
#include "fake.h"

FAKE_PLUGIN("function", fake_device, fake_open, NULL);
