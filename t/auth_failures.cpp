// auth_failures -- who has guessed too often, by address and time.
#include "../Server/AuthFailures.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

using namespace Net::SMTP;
using namespace std::chrono_literals;

namespace {

const Deadline start = Deadline() + 1'000'000s;

}  // namespace

TEST_CASE("an address may fail up to the limit within the window, and has it all again when that is over") {
    AuthFailures table(3, 600s);
    CHECK(!table.over("192.0.2.1", start));
    CHECK(table.note("192.0.2.1", start));
    CHECK(table.note("192.0.2.1", start + 100s));
    CHECK(!table.over("192.0.2.1", start + 100s));
    CHECK(table.note("192.0.2.1", start + 200s));
    CHECK(table.over("192.0.2.1", start + 200s));
    CHECK(table.over("192.0.2.1", start + 600s - 1ns));
    CHECK(!table.over("192.0.2.1", start + 600s));  // the first one is that long ago
    CHECK(table.note("192.0.2.1", start + 600s));
    CHECK(table.over("192.0.2.1", start + 600s));
    CHECK(!table.over("192.0.2.1", start + 700s));
    CHECK(!table.over("192.0.2.1", start + 5000s));
    CHECK(table.addresses() == 0);
}

TEST_CASE("a failure over the limit is not counted: trying on prolongs nothing") {
    AuthFailures table(1, 600s);
    CHECK(table.note("192.0.2.1", start));
    for (auto later = 1s; later < 600s; later += 10s) CHECK(!table.note("192.0.2.1", start + later));
    CHECK(!table.over("192.0.2.1", start + 600s));
}

TEST_CASE("addresses are counted apart, but for those of one /64 of IPv6") {
    AuthFailures table(1, 600s);
    CHECK(table.note("192.0.2.1", start));
    CHECK(!table.over("192.0.2.2", start));
    CHECK(table.over("::ffff:192.0.2.1", start));

    CHECK(table.note("2001:db8:1:2::1", start));
    CHECK(table.over("2001:db8:1:2::1", start));
    CHECK(table.over("2001:db8:1:2:ffff:ffff:ffff:ffff", start));
    CHECK(!table.over("2001:db8:1:3::1", start));
    CHECK(!table.over("2001:db8:1:1:ffff:ffff:ffff:ffff", start));

    CHECK(table.note("fe80::1%eth0", start));
    CHECK(table.over("fe80::2%eth0", start));
    CHECK(table.addresses() == 3);
}

TEST_CASE("what has no address is never over") {
    AuthFailures table(1, 600s);
    for (const char* host : {"", "/", "/run/smtp", "localhost"}) {
        CAPTURE(host);
        for (int i = 0; i < 3; ++i) CHECK(table.note(host, start));
        CHECK(!table.over(host, start));
    }
    CHECK(table.addresses() == 0);
}

TEST_CASE("without a limit nothing is remembered") {
    AuthFailures table(0, 600s);
    for (int i = 0; i < 100; ++i) CHECK(table.note("192.0.2.1", start));
    CHECK(!table.over("192.0.2.1", start));
    CHECK(table.addresses() == 0);
}

TEST_CASE("the table is bounded: who has not failed for the longest time is forgotten") {
    AuthFailures table(2, 600s, 3);
    for (const char* host : {"192.0.2.1", "192.0.2.2", "192.0.2.3"}) CHECK(table.note(host, start));
    CHECK(table.note("192.0.2.1", start + 1s));  // now the newest
    CHECK(table.note("192.0.2.4", start + 2s));  // 192.0.2.2 goes
    CHECK(table.addresses() == 3);
    CHECK(table.over("192.0.2.1", start + 2s));
    CHECK(table.note("192.0.2.3", start + 2s));
    CHECK(table.over("192.0.2.3", start + 2s));
    CHECK(table.note("192.0.2.2", start + 2s));
    CHECK(!table.over("192.0.2.2", start + 2s));
}

TEST_CASE("ten thousand addresses are remembered, not one more") {
    AuthFailures table(1, 600s);
    auto host = [](int i) {
        return "10." + std::to_string(i >> 16) + '.' + std::to_string(i >> 8 & 255) + '.' + std::to_string(i & 255);
    };
    for (int i = 0; i < 10'000; ++i) table.note(host(i), start);
    CHECK(table.addresses() == 10'000);
    CHECK(table.over(host(0), start));
    table.note(host(10'000), start);
    CHECK(table.addresses() == 10'000);
    CHECK(!table.over(host(0), start));
    CHECK(table.over(host(1), start));
}

TEST_CASE("a moment that is a little older than another's does no harm") {
    AuthFailures table(2, 600s);
    table.note("192.0.2.1", start + 1s);
    table.note("192.0.2.2", start);
    CHECK(!table.over("192.0.2.2", start + 600s));
    CHECK(!table.over("192.0.2.1", start + 601s));
    CHECK(table.addresses() == 0);
}

TEST_CASE("threads that fail at once are counted one by one") {
    AuthFailures table(50, 600s);
    std::atomic<int> counted{0};
    std::vector<std::thread> all;
    for (int t = 0; t < 4; ++t)
        all.emplace_back([&] {
            for (int i = 0; i < 100; ++i) counted += table.note("192.0.2.1", start);
        });
    for (auto& t : all) t.join();
    CHECK(counted == 50);
}
