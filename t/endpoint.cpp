// endpoint -- tests of Endpoint and Networks: what is an address, what is not, and who is inside.
#include <doctest/doctest.h>

#include <stdexcept>

#include "../Server/Endpoint.hpp"

using namespace Net::SMTP;
using namespace std::string_literals;

TEST_CASE("an endpoint is read from text") {
    struct Row {
        const char *text, *host;
        int port;
    };
    const Row rows[] = {
        {"192.0.2.1:25", "192.0.2.1", 25},
        {"192.0.2.1", "192.0.2.1", 2525},
        {"mx.example.org:587", "mx.example.org", 587},
        {"localhost", "localhost", 2525},
        {"_smtp-1.example:1", "_smtp-1.example", 1},
        {"[2001:db8::1]:25", "2001:db8::1", 25},
        {"[2001:db8::1]", "2001:db8::1", 2525},
        {"[::]:0", "::", 0},
        {"[::ffff:192.0.2.1]:25", "::ffff:192.0.2.1", 25},
        {":25", "", 25},
        {":0", "", 0},
        {"", "", 2525},
        {"h:65534", "h", 65534},
        {"h:65535", "h", 65535},
        {"unix:/run/s", "/run/s", 0},
        {"unix:/a", "/a", 0},
        {"unix:/a:b c", "/a:b c", 0},
    };
    for (const auto& r : rows) {
        CAPTURE(r.text);
        const auto e = Endpoint::parse(r.text, 2525);
        CHECK(e == Endpoint{r.host, std::uint16_t(r.port)});
        CHECK(e.local() == (r.host[0] == '/'));
    }
}

TEST_CASE("what is no endpoint is refused, and named") {
    for (const std::string text : {"h:65536",
                                   "h:-1",
                                   "h:+1",
                                   "h: 25",
                                   "h:25 ",
                                   "h:",
                                   ":",
                                   "h:x",
                                   "h:25x",
                                   "h:99999999999999999999",
                                   "2001:db8::1",
                                   "::1",
                                   "a:1:2",
                                   "[",
                                   "[]",
                                   "[]:25",
                                   "[::1",
                                   "[::1]25",
                                   "[::1]x:25",
                                   "[::1]:",
                                   "[mx.example]:25",
                                   "[::1%lo]:25",
                                   "[[::1]]:25",
                                   "a b:25",
                                   " h:25",
                                   "h/x:25",
                                   "user@h:25",
                                   "h\r\n:25",
                                   "unix:",
                                   "unix:/",
                                   "unix:run/s",
                                   "h\t"}) {
        CAPTURE(text);
        CHECK_THROWS_AS(Endpoint::parse(text, 2525), std::invalid_argument);
    }
    for (const auto& text : {"h\0:25"s, "[::1\0]:25"s, "[::1\0.example.org]:25"s, "h:25\0"s, "\0"s, "unix:/a\0b"s}) {
        CAPTURE(text.size());
        CHECK_THROWS_AS(Endpoint::parse(text, 2525), std::invalid_argument);
    }
    try {
        Endpoint::parse("h:x1", 1);
    } catch (const std::invalid_argument& e) {
        CHECK(std::string(e.what()).find("h:x1") != std::string::npos);
    }
}

TEST_CASE("an endpoint is written as it is read") {
    struct Row {
        Endpoint e;
        const char* text;
    };
    const Row rows[] = {{{"192.0.2.1", 25}, "192.0.2.1:25"},
                        {{"2001:db8::1", 25}, "[2001:db8::1]:25"},
                        {{"mx.example", 0}, "mx.example:0"},
                        {{"/run/s", 0}, "unix:/run/s"},
                        {{"", 0}, ""},
                        {{"", 25}, ":25"}};
    for (const auto& r : rows) {
        CAPTURE(r.text);
        CHECK(r.e.str() == r.text);
        CHECK(Endpoint::parse(r.e.str(), 0) == r.e);
    }
}

TEST_CASE("a network holds the addresses of its prefix, and no other") {
    struct Row {
        const char *list, *host;
        bool inside;
    };
    const Row rows[] = {
        {"192.0.2.1", "192.0.2.1", true},
        {"192.0.2.1", "192.0.2.0", false},
        {"192.0.2.1", "192.0.2.2", false},
        {"127.0.0.0/8", "127.255.255.255", true},
        {"127.0.0.0/8", "126.255.255.255", false},
        {"127.0.0.0/8", "128.0.0.0", false},
        {"10.0.0.0/9", "10.127.255.255", true},
        {"10.0.0.0/9", "10.128.0.0", false},
        {"192.0.2.128/25", "192.0.2.128", true},
        {"192.0.2.128/25", "192.0.2.127", false},
        {"192.0.2.4/31", "192.0.2.5", true},
        {"192.0.2.4/31", "192.0.2.6", false},
        {"192.0.2.4/31", "192.0.2.3", false},
        {"192.0.2.4/32", "192.0.2.4", true},
        {"192.0.2.4/32", "192.0.2.5", false},
        {"0.0.0.0/0", "255.255.255.255", true},
        {"0.0.0.0/0", "::1", false},
        {"0.0.0.0/1", "127.0.0.1", true},
        {"0.0.0.0/1", "128.0.0.1", false},
        {"::1", "::1", true},
        {"::1", "::2", false},
        {"::1", "0:0:0:0:0:0:0:1", true},
        {"[::1]", "::1", true},
        {"2001:db8::/32", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true},
        {"2001:db8::/32", "2001:db9::", false},
        {"2001:db8::/33", "2001:db8:7fff::", true},
        {"2001:db8::/33", "2001:db8:8000::", false},
        {"2001:db8::/127", "2001:db8::1", true},
        {"2001:db8::/127", "2001:db8::2", false},
        {"::/0", "2001:db8::1", true},
        // RFC 4291 2.5.5.2: one address, two spellings.
        {"192.0.2.1", "::ffff:192.0.2.1", true},
        {"::ffff:192.0.2.1", "192.0.2.1", true},
        {"::ffff:192.0.2.0/120", "192.0.2.255", true},
        {"::ffff:192.0.2.0/120", "192.0.3.0", false},
        {"192.0.2.1", "::192.0.2.1", false},
        {"::/0", "192.0.2.1", false},
        {"::/0", "::ffff:192.0.2.1", false},
        {"::/80", "192.0.2.1", false},
        {"::ffff:0:0/96", "192.0.2.1", true},
        {"0.0.0.0/0", "::ffff:192.0.2.1", true},
        {"127.0.0.0/8, ::1 2001:db8::/32", "127.0.0.1", true},
        {"127.0.0.0/8, ::1 2001:db8::/32", "::1", true},
        {"127.0.0.0/8, ::1 2001:db8::/32", "2001:db8::9", true},
        {"127.0.0.0/8, ::1 2001:db8::/32", "192.0.2.1", false},
        {" ,,\t127.0.0.1\n,", "127.0.0.1", true},
        {"", "127.0.0.1", false},
        {"127.0.0.1", "/run/socket", true},
        {"::1", "/run/socket", false},
        {"0.0.0.0/0 ::/0", "localhost", false},
        {"0.0.0.0/0 ::/0", "", false},
        {"0.0.0.0/0 ::/0", "127.0.0.1 ", false},
        {"0.0.0.0/0 ::/0", "127.1", false},
        {"0.0.0.0/0 ::/0", "127.0.0.1/8", false},
        {"0.0.0.0/0 ::/0", "127.0.0.1.example.org", false},
        {"0.0.0.0/0 ::/0", "256.0.0.1", false},
    };
    for (const auto& r : rows) {
        CAPTURE(r.list);
        CAPTURE(r.host);
        CHECK(Networks(r.list).contains(r.host) == r.inside);
        CHECK(Networks(r.list).contains(Endpoint{r.host, 25}) == r.inside);
    }
    CHECK(!Networks().contains("127.0.0.1"));
    CHECK(!Networks("0.0.0.0/0").contains("127.0.0.1\0.example.org"s));
}

TEST_CASE("a prefix ends where it says, bit by bit") {
    for (int bits = 0; bits <= 32; ++bits) {
        CAPTURE(bits);
        const Networks net("0.0.0.0/" + std::to_string(bits));
        CHECK(net.contains("0.0.0.0"));
        if (bits == 0) continue;
        const std::uint32_t outside = 1u << (32 - bits), inside = outside - 1;
        auto text = [](std::uint32_t n) {
            return std::to_string(n >> 24) + '.' + std::to_string(n >> 16 & 255) + '.' + std::to_string(n >> 8 & 255) +
                   '.' + std::to_string(n & 255);
        };
        CHECK(net.contains(text(inside)));
        CHECK(!net.contains(text(outside)));
    }
}

TEST_CASE("what is no network is refused") {
    for (const std::string text : {"localhost",   "10.0.0.0/33",
                                   "10.0.0.0/-1", "10.0.0.0/+8",
                                   "10.0.0.0/",   "10.0.0.0/8x",
                                   "10.0.0.0/ 8", "10.0.0.0/8/8",
                                   "10.0.0",      "10/8",
                                   "010.0.0.1",   "::/129",
                                   "::/-1",       "::1%lo",
                                   "[::1",        "127.0.0.1;::1",
                                   "/8",          "10.0.0.0/255.0.0.0",
                                   "127.0.0.1,x", "10.0.0.0/18446744073709551616"}) {
        CAPTURE(text);
        CHECK_THROWS_AS(Networks{text}, std::invalid_argument);
    }
    CHECK_THROWS_AS(Networks("127.0.0.1\0x"s), std::invalid_argument);
}

TEST_CASE("an address that is more than its bits is no network: who writes it means another one") {
    for (const std::string text : {"127.0.0.1/8", "192.0.2.1/2", "192.0.2.129/25", "192.0.2.1/31", "::1/127",
                                   "2001:db8::1/32", "::ffff:10.0.0.0/8", "::ffff:192.0.2.0/24", "0.0.0.1/0"}) {
        CAPTURE(text);
        CHECK_THROWS_AS(Networks{text}, std::invalid_argument);
    }
}

TEST_CASE("a prefix of more than 2^31 bits is refused like any other that is too long") {
    for (const std::string text :
         {"10.0.0.0/2147483648", "10.0.0.0/4294967264", "10.0.0.0/4294967295", "::/4294967295", "::/4294967168"}) {
        CAPTURE(text);
        CHECK_THROWS_AS(Networks{text}, std::invalid_argument);
    }
}
