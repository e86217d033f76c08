// reply -- tests of Reply: what goes on the wire whatever the text holds, which of two is worse, what may refuse.
#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <stdexcept>
#include <vector>

#include "../Server/Reply.hpp"

using namespace Net::SMTP;

namespace {

std::string wire(const Reply& reply, bool statuses = true) {
    std::string out;
    reply.append_to(out, statuses);
    return out;
}

// The lines without CRLF; the text must consist of whole ones.
std::vector<std::string> lines(std::string_view text) {
    std::vector<std::string> out;
    while (!text.empty()) {
        const auto end = text.find("\r\n");
        if (end == text.npos) throw std::logic_error("not whole lines");
        out.emplace_back(text.substr(0, end));
        text.remove_prefix(end + 2);
    }
    return out;
}

// What holds for every reply on the wire (RFC 5321 4.2, 4.5.3.1.5).
void well_formed(const std::string& octets, const std::string& code) {
    const auto all = lines(octets);
    REQUIRE(!all.empty());
    CHECK(all.size() <= 100);
    for (const auto& line : all) {
        const bool fine = line.size() >= 4 && line.size() <= 510 && line.starts_with(code) &&
                          line[3] == (&line == &all.back() ? ' ' : '-') &&
                          std::ranges::none_of(line, [](unsigned char c) { return c < 32 || c == 127; });
        if (!fine) FAIL_CHECK("a line is not well-formed: " << line);
    }
}

}  // namespace

TEST_CASE("a reply is one line, or several joined by hyphens") {
    struct Row {
        Reply reply;
        bool statuses;
        const char* octets;
    };
    const Row rows[] = {
        {{}, true, "250 \r\n"},
        {{250, "", "OK"}, true, "250 OK\r\n"},
        {{250, "2.1.5", "OK"}, true, "250 2.1.5 OK\r\n"},
        {{250, "2.1.5", "OK"}, false, "250 OK\r\n"},
        {{250, "", "a\nb\nc"}, true, "250-a\r\n250-b\r\n250 c\r\n"},
        {{550, "5.7.1", "a\nb"}, true, "550-5.7.1 a\r\n550 5.7.1 b\r\n"},
        {{550, "5.7.1", "a\n\nb"}, false, "550-a\r\n550-\r\n550 b\r\n"},
        {{354, "", "Go"}, true, "354 Go\r\n"},
    };
    for (const auto& r : rows) CHECK(wire(r.reply, r.statuses) == r.octets);
}

TEST_CASE("a reply is appended, what was there stays") {
    std::string out = "before";
    Reply{250, "", "a"}.append_to(out);
    Reply{550, "", "b"}.append_to(out);
    CHECK(out == "before250 a\r\n550 b\r\n");
}

TEST_CASE("no control octet of a text gets through") {
    for (int c = 0; c < 256; ++c) {
        CAPTURE(c);
        const auto octets = wire({550, "5.7.1", std::string("a") + char(c) + "b"});
        if (c == '\n') CHECK(octets == "550-5.7.1 a\r\n550 5.7.1 b\r\n");
        else if (c < 32 || c == 127) CHECK(octets == "550 5.7.1 a b\r\n");
        else CHECK(octets == std::string("550 5.7.1 a") + (c < 128 ? char(c) : '?') + "b\r\n");  // alone it is no UTF-8
    }
    CHECK(wire({550, "", "a\r\n250 ok"}) == "550-a \r\n550 250 ok\r\n");
    CHECK(wire({550, "", "a\r250 ok"}) == "550 a 250 ok\r\n");
}

TEST_CASE("a code that is none goes out as 451, without a status") {
    for (int code : {200, 250, 299, 300, 354, 400, 451, 500, 599})
        CHECK(wire({code, "", "x"}) == std::to_string(code) + " x\r\n");
    for (int code : {-1, 0, 1, 99, 100, 199, 600, 1000, 2147483647, -2147483647 - 1})
        CHECK(wire({code, "2.0.0", "x"}) == "451 x\r\n");
}

TEST_CASE("a status goes out only where RFC 2034 knows it") {
    struct Row {
        int code;
        const char* status;
        bool sent;
    };
    const Row rows[] = {
        {250, "2.0.0", true},  {250, "2.999.999", true}, {450, "4.2.1", true},     {550, "5.1.1", true},
        {250, "5.0.0", false}, {550, "4.0.0", false},    {354, "3.0.0", false},    {354, "2.0.0", false},
        {250, "", false},      {250, "2", false},        {250, "2.0", false},      {250, "2.0.0.0", false},
        {250, "2.0.", false},  {250, "2..0", false},     {250, "2.1000.0", false}, {250, "2.0.1000", false},
        {250, "2.a.0", false}, {250, "2.0.0 ", false},   {250, " 2.0.0", false},   {250, "2.0.0\r\n", false},
        {250, "2,0,0", false}, {250, "2.-1.0", false},   {250, "22.0.0", false},
    };
    for (const auto& r : rows) {
        CAPTURE(r.status);
        CHECK(wire({r.code, r.status, "x"}) ==
              std::to_string(r.code) + ' ' + (r.sent ? std::string(r.status) + ' ' : "") + "x\r\n");
    }
}

TEST_CASE("a text in the place of the status is the text, where there is no other") {
    std::string out;
    Reply{550, "No such user", ""}.append_to(out);
    CHECK(out == "550 No such user\r\n");
    out.clear();
    Reply{550, "nonsense", "No such user"}.append_to(out);
    CHECK(out == "550 No such user\r\n");
    out.clear();
    Reply{550, "5.1.1", ""}.append_to(out);
    CHECK(out == "550 5.1.1 \r\n");
}

TEST_CASE("a status is a class and two numbers of at most three digits") {
    for (const std::string good : {"2.0.0", "4.1.10", "5.999.999", "5.1.1"}) {
        CAPTURE(good);
        CHECK(valid_status(good));
    }
    // The last four: RFC 3463 2, "expressed without leading zero digits".
    for (const std::string bad : {"", "2", "2.0", "2.0.0.0", "1.0.0", "3.0.0", "6.0.0", "2.1000.1", "2.1.1000", "2..1",
                                  "2.1.", ".1.1", "2.1.x", "5.01.1", "5.1.01", "5.00.0", "5.1.001"}) {
        CAPTURE(bad);
        CHECK(!valid_status(bad));
    }
}

TEST_CASE("a long line is broken at 512 octets, and nothing of it is lost") {
    for (const std::string& status : {std::string(), std::string("5.7.1"), std::string("5.999.999")}) {
        const std::size_t room = 510 - 4 - (status.empty() ? 0 : status.size() + 1);
        for (std::size_t size : {room - 1, room, room + 1, 2 * room - 1, 2 * room, 2 * room + 1}) {
            CAPTURE(size);
            const auto octets = wire({550, status, std::string(size, 'x')});
            well_formed(octets, "550");
            const auto all = lines(octets);
            CHECK(all.size() == (size + room - 1) / room);
            CHECK(std::size_t(std::count(octets.begin(), octets.end(), 'x')) == size);
            if (size >= room) CHECK(all.front().size() == 510);
        }
    }
}

TEST_CASE("no UTF-8 character is cut in two") {
    for (const std::string letter : {"\u00e9", "\u20ac", "\U0001F4E7"})
        for (std::size_t before = 0; before < 6; ++before) {
            std::string text(before, '.');
            for (int i = 0; i < 400; ++i) text += letter;
            const auto octets = wire({250, "2.0.0", text});
            well_formed(octets, "250");
            std::size_t seen = 0;
            for (const auto& line : lines(octets)) {
                if ((static_cast<unsigned char>(line[10]) & 0xC0) == 0x80) FAIL_CHECK("a character was cut in two");
                for (auto at = line.find(letter); at != line.npos; at = line.find(letter, at + 1)) ++seen;
            }
            CHECK(seen == 400);
        }
    // Octets that are no UTF-8 at all make no endless loop.
    well_formed(wire({250, "", std::string(5000, '\x80')}), "250");
    well_formed(wire({250, "", std::string(5000, '\xF0')}), "250");
}

TEST_CASE("a reply has at most 100 lines") {
    for (int n : {99, 100, 101, 5000}) {
        std::string text;
        for (int i = 0; i < n; ++i) text += (i ? "\nx" : "x") + std::to_string(i);
        const auto all = lines(wire({550, "", text}));
        CHECK(int(all.size()) == std::min(n, 100));
        CHECK(all.back() == "550 x" + std::to_string(std::min(n, 100) - 1));
    }
    well_formed(wire({550, "5.0.0", std::string(100'000, 'x')}), "550");
    well_formed(wire({550, "5.0.0", std::string(100'000, '\n')}), "550");
}

TEST_CASE("random texts never break the wire") {
    std::mt19937 random(1);
    const char alphabet[] = "a \r\n\t\0.-\x7F\x80\xE2\x82\xAC";
    for (int round = 0; round < 2000; ++round) {
        std::string text(random() % 1500, ' ');
        for (auto& c : text) c = alphabet[random() % (sizeof alphabet - 1)];
        well_formed(wire({421, random() % 2 ? "4.4.2" : "", text}), "421");
    }
}

TEST_CASE("a reply tells what kind of answer it is") {
    struct Row {
        int code;
        bool positive, temporary, permanent;
    };
    const Row rows[] = {{199, false, false, false}, {200, true, false, false}, {354, true, false, false},
                        {399, true, false, false},  {400, false, true, false}, {499, false, true, false},
                        {500, false, false, true},  {599, false, false, true}};
    for (const auto& r : rows) {
        CAPTURE(r.code);
        const Reply reply{r.code, "", ""};
        CHECK(reply.positive() == r.positive);
        CHECK(reply.temporary() == r.temporary);
        CHECK(reply.permanent() == r.permanent);
    }
    CHECK(Reply{} == Reply{250, "", ""});
    CHECK(Reply{250, "", "a"} != Reply{250, "", "b"});
    CHECK(Reply{250, "2.0.0", "a"} != Reply{250, "", "a"});
}

TEST_CASE("a reply as text has no line ends of the wire") {
    CHECK(Reply{}.str() == "250");
    CHECK(Reply{550, "5.1.1", "No such user"}.str() == "550 5.1.1 No such user");
    CHECK(Reply{550, "", "No such user"}.str() == "550 No such user");
    CHECK(Reply{550, "5.1.1", ""}.str() == "550 5.1.1");
    CHECK(Reply{550, "", "a\nb"}.str() == "550 a\nb");
}

TEST_CASE("later is worse than never, never is worse than taken, and of equals the first is heard") {
    const Reply taken{250, "", "t"}, later{451, "", "l"}, never{550, "", "n"};
    struct Row {
        Reply a, b, expected;
    };
    const Row rows[] = {{taken, later, later}, {later, taken, later},
                        {taken, never, never}, {never, taken, never},
                        {never, later, later}, {later, never, later},
                        {taken, taken, taken}, {{450, "", "x"}, {451, "", "y"}, {450, "", "x"}}};
    for (const auto& r : rows) CHECK(worse(r.a, r.b).str() == r.expected.str());
}

TEST_CASE("a code that goes out as 451 is as bad as 451") {
    const Reply taken{250, "", "t"}, never{550, "", "n"};
    for (int code : {0, 199, 600}) {
        const Reply odd{code, "", "odd"};
        CAPTURE(code);
        CHECK(worse(taken, odd).code == code);
        CHECK(worse(odd, taken).code == code);
        CHECK(worse(never, odd).code == code);
    }
}

TEST_CASE("only 400 to 599 refuse") {
    for (int code : {400, 421, 499, 500, 599}) {
        const Reject refusal(Reply{code, "", "No"});
        CHECK(refusal.reply().code == code);
        CHECK(std::string(refusal.what()) == std::to_string(code) + " No");
    }
    for (int code : {-550, 0, 199, 200, 250, 354, 399, 600, 5500}) {
        CHECK_THROWS_AS(Reject(Reply{code, "", "x"}), std::invalid_argument);
        CHECK_THROWS_AS(Hangup(Reply{code, "", "x"}), std::invalid_argument);
    }
    // A Hangup is caught where a Reject is.
    CHECK_THROWS_AS(throw Hangup(Reply{421, "", "x"}), Reject);
}
