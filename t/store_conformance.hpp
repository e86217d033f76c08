// store_conformance -- what every store must do: each keeps each of these promises, in a place of its own.
#pragma once

#include <doctest/doctest.h>

#include "store_care.hpp"
#include "store_given.hpp"
#include "store_kept.hpp"
#include "store_shared.hpp"

namespace test::stores {

// Makes a place that nobody has used.
using NewPlace = std::function<std::unique_ptr<StorePlace>()>;

// What became of one promise: "" when it was kept.
inline std::string broken(const Promise& promise, const NewPlace& place) {
    try {
        promise.kept(*place());
    } catch (const std::exception& e) {
        return *e.what() ? e.what() : "something was thrown";
    }
    return "";
}

inline void keeps(const std::vector<Promise>& promises, const NewPlace& place) {
    for (const auto& promise : promises) {
        const auto what = broken(promise, place);
        CHECK_MESSAGE(what.empty(), std::string(promise.sentence), ": ", what);
    }
}

}  // namespace test::stores

// The whole suite for one store, as cases of its own file; `place` is a NewPlace.
#define STORE_KEEPS_ITS_PROMISES(name, place)                                                                  \
    TEST_CASE(name ": what is put there is kept") { test::stores::keeps(test::stores::kept_promises, place); } \
    TEST_CASE(name ": what is due is given out, once, and goes when it is done") {                             \
        test::stores::keeps(test::stores::given_promises, place);                                              \
    }                                                                                                          \
    TEST_CASE(name ": mail can be held, flushed, cancelled and looked at") {                                   \
        test::stores::keeps(test::stores::care_promises, place);                                               \
    }                                                                                                          \
    TEST_CASE(name ": threads, other stores and later ones share it") {                                        \
        test::stores::keeps(test::stores::shared_promises, place);                                             \
    }
// And more, for a place that other processes see.
#define STORE_KEEPS_ITS_PROMISES_TO_PROCESSES(name, place)          \
    TEST_CASE(name ": children and other processes share it") {     \
        test::stores::keeps(test::stores::process_promises, place); \
    }
