// main -- doctest's main, compiled once and without optimization.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1  // as GCC has it
#endif
#endif
#ifdef __SANITIZE_THREAD__
// A test that forks may meet a thread of the one before that is still ending: its child may have threads all the same.
extern "C" const char* __tsan_default_options() { return "die_after_fork=0"; }
#endif
