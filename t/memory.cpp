// memory -- tests of Budget and Block: nothing over the limit, nothing lost by growing, all of it given back.
#include <doctest/doctest.h>

#include <cstring>
#include <thread>
#include <vector>

#include "../Server/Memory.hpp"

using namespace Net::SMTP;

namespace {
constexpr std::uint64_t KiB = 1024, MiB = 1024 * KiB;
}

TEST_CASE("a budget gives up to its limit and not an octet more") {
    Budget budget(100);
    CHECK(budget.take(0));
    CHECK(budget.take(99));
    CHECK(!budget.take(2));
    CHECK(budget.used() == 99);
    CHECK(budget.take(1));
    CHECK(!budget.take(1));
    CHECK(budget.take(0));
    CHECK(!budget.take(UINT64_MAX));
    CHECK(!budget.take(UINT64_MAX - 98));
    CHECK(budget.used() == 100);
    budget.give(100);
    CHECK(budget.used() == 0);
    CHECK(!budget.take(101));
    CHECK(budget.take(100));

    Budget nothing(0);
    CHECK(!nothing.take(1));
    CHECK(nothing.take(0));
    Budget all(UINT64_MAX);
    CHECK(all.take(UINT64_MAX));
    CHECK(!all.take(1));
}

TEST_CASE("threads together never take more than a budget has") {
    Budget budget(1000);
    std::atomic<int> over{0}, taken{0};
    {
        std::vector<std::jthread> threads;
        for (int t = 0; t < 4; ++t)
            threads.emplace_back([&, t] {
                for (int i = 0; i < 20'000; ++i) {
                    const std::uint64_t n = 100 + 97 * t;
                    if (!budget.take(n)) continue;
                    ++taken;
                    if (budget.used() > 1000) ++over;
                    budget.give(n);
                }
            });
    }
    CHECK(over == 0);
    CHECK(taken > 0);
    CHECK(budget.used() == 0);
}

TEST_CASE("a block grows by the factor four and keeps what it holds") {
    const auto budget = std::make_shared<Budget>(64 * MiB);
    Block block(budget);
    CHECK(block.data() == nullptr);
    CHECK(block.capacity() == 0);
    std::size_t filled = 0;
    for (const std::uint64_t expected : {16 * KiB, 64 * KiB, 256 * KiB, 1 * MiB, 4 * MiB, 16 * MiB, 64 * MiB}) {
        CAPTURE(expected);
        REQUIRE(block.grow(1024 * MiB));
        CHECK(block.capacity() == expected);
        CHECK(budget->used() == expected);
        bool kept = true;
        for (std::size_t i = 0; i < filled; i += 251) kept &= block.data()[i] == char(i / 251);
        CHECK(kept);
        // To the very last octet it is ours.
        std::memset(block.data() + filled, 0, block.capacity() - filled);
        filled = block.capacity();
        for (std::size_t i = 0; i < filled; i += 251) block.data()[i] = char(i / 251);
    }
    const auto* before = block.data();
    CHECK(!block.grow(1024 * MiB));  // the budget is spent
    CHECK(block.data() == before);
    CHECK(block.capacity() == 64 * MiB);
    CHECK(budget->used() == 64 * MiB);
    block.release();
    CHECK(block.capacity() == 0);
    CHECK(block.data() == nullptr);
    CHECK(budget->used() == 0);
    block.release();
    CHECK(budget->used() == 0);
    CHECK(block.grow(1 * MiB));
    CHECK(block.capacity() == 16 * KiB);
}

TEST_CASE("a block without a wish for a limit grows too") {
    const auto budget = std::make_shared<Budget>(1 * MiB);
    Block block(budget);
    REQUIRE(block.grow());
    CHECK(block.capacity() == Block::smallest);
    REQUIRE(block.grow());
    CHECK(block.capacity() == 4 * Block::smallest);
    for (const auto most : {UINT64_MAX - 1, UINT64_MAX - 4095, UINT64_MAX - 4096}) {
        Block other(budget);
        CHECK(other.grow(most));
    }
}

TEST_CASE("a block grows to the page that holds what is asked, and not over it") {
    for (const std::uint64_t most :
         {4 * KiB, 16 * KiB - 1, 16 * KiB, 16 * KiB + 1, 64 * KiB - 1, 64 * KiB, 64 * KiB + 1, 100 * KiB, 256 * KiB - 1,
          256 * KiB, 256 * KiB + 1, 5 * MiB, 5 * MiB + 1}) {
        CAPTURE(most);
        Block block(std::make_shared<Budget>(64 * MiB));
        const auto pages = (most + 4 * KiB - 1) / (4 * KiB) * (4 * KiB);
        while (block.grow(most)) CHECK(block.capacity() <= pages);
        const auto reached = block.capacity();
        CHECK(reached == pages);
        CHECK(!block.grow(most));
        CHECK(!block.grow(0));
        CHECK(block.capacity() == reached);
    }
}

TEST_CASE("a block that may not grow stays as it is") {
    Block without(nullptr);
    CHECK(!without.grow(1 * MiB));
    CHECK(without.capacity() == 0);

    for (const std::uint64_t limit : {16 * KiB - 1, 16 * KiB, 64 * KiB - 1, 64 * KiB, 256 * KiB - 1, 256 * KiB}) {
        CAPTURE(limit);
        const auto budget = std::make_shared<Budget>(limit);
        {
            Block block(budget);
            while (block.grow(4 * MiB)) {
            }
            const auto reached = limit < 16 * KiB    ? 0
                                 : limit < 64 * KiB  ? 16 * KiB
                                 : limit < 256 * KiB ? 64 * KiB
                                                     : 256 * KiB;
            CHECK(block.capacity() == reached);
            CHECK(budget->used() == reached);
        }
        CHECK(budget->used() == 0);
    }
}

TEST_CASE("a block the system has no room for costs the budget nothing") {
    const auto budget = std::make_shared<Budget>(UINT64_MAX);
    Block block(budget);
    const auto most = std::uint64_t(1) << 60;
    while (block.capacity() < 256 * KiB) REQUIRE(block.grow(most));
    block.data()[0] = 'x';
    // Untouched pages cost nothing; the address space ends at 2^47.
    while (block.capacity() < std::uint64_t(1) << 48 && block.grow(most)) {
    }
    CHECK(block.capacity() < std::uint64_t(1) << 48);
    CHECK(budget->used() == block.capacity());
    CHECK(block.data()[0] == 'x');
}
