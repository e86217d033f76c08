// base64 -- octets as letters, and what is none of them.
#include "../Server/Base64.hpp"

#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

using namespace Net::SMTP;

namespace {

bool decodes(std::string_view text) {
    std::string out;
    return base64_decode(text, out);
}

}  // namespace

TEST_CASE("base64 is as RFC 4648 10 shows it") {
    const std::vector<std::pair<std::string, std::string>> vectors{
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
        {"\xFB\xFF\xBE", "+/++"},
        {std::string(3, '\0'), "AAAA"},
    };
    for (const auto& vector : vectors) {
        CAPTURE(vector.second);
        CHECK(base64_encode(vector.first) == vector.second);
        std::string out;
        CHECK(base64_decode(vector.second, out));
        CHECK((out == vector.first));
    }
}

TEST_CASE("all octets come back, whatever their number") {
    std::string all;
    for (int i = 0; i < 256; ++i) {
        all += char(i);
        std::string out;
        CHECK(base64_decode(base64_encode(all), out));
        CHECK((out == all));
    }
}

TEST_CASE("what is not exactly base64 is not decoded") {
    for (const char* text : {"A",      "AA",       "AAA",      "AAAAA", "Zg",   "Zg=",     "Zm8",   "=",     "==",
                             "====",   "Z===",     "Zg==Zg==", "Zg=A",  "Z=g=", "=Zg=",    "Zm9v ", " Zm9v", "Zm 9v",
                             "Zm\t9v", "Zm9v\r\n", "Zm9-",     "Zm9_",  "Zm9*", "Zm9\x80", "Zh==",  "Zm9=",  "*"}) {
        CAPTURE(text);
        CHECK(!decodes(text));
    }
    CHECK(!decodes(std::string_view("AAA\0", 4)));
}

TEST_CASE("decoding appends, and needs no second room") {
    std::string out = "x";
    out.reserve(100);
    const auto* const room = out.data();
    CHECK(base64_decode(base64_encode(std::string(90, 'y')), out));
    CHECK((out == "x" + std::string(90, 'y')));
    CHECK(out.data() == room);
}
