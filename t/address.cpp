// address -- tests of Address: paths and parameters of MAIL and RCPT by the grammar, and nothing beside it.
#include <doctest/doctest.h>

#include <random>
#include <stdexcept>

#include "../Server/Address.hpp"

using namespace Net::SMTP;
using namespace std::string_literals;

namespace {

std::string times(std::size_t n, std::string_view text) {
    std::string out;
    while (n-- > 0) out += text;
    return out;
}

// A domain of exactly this many octets, in labels of at most 63.
std::string domain_of(std::size_t size) {
    std::string out;
    while (out.size() + 64 < size) out += std::string(63, 'd') + '.';
    if (size - out.size() == 64) out += "d.";
    return out + std::string(size - out.size(), 'd');
}

const Extensions everything{.smtputf8 = true, .dsn = true, .binary_mime = true};
const Extensions nothing{false, false, false, false, false, false, false, false};

std::string text(const std::optional<Address>& a) { return a ? a->str() : "(refused)"; }

// What parse_mail and parse_rcpt make of it: the address, or the refusal.
std::string mail(std::string_view argument, const Extensions& offered = {}, const Leniency& lenient = {}) {
    Reply refusal;
    const auto s = parse_mail(argument, offered, lenient, refusal);
    return s ? s->null() ? "null" : s->str() : std::to_string(refusal.code) + ' ' + refusal.status;
}
std::string rcpt(std::string_view argument, const Extensions& offered = {}, bool utf8 = false,
                 const Leniency& lenient = {}) {
    Reply refusal;
    const auto r = parse_rcpt(argument, offered, utf8, lenient, refusal);
    return r ? r->str() : std::to_string(refusal.code) + ' ' + refusal.status;
}
Sender sender(std::string_view argument, const Extensions& offered = everything) {
    Reply refusal;
    auto s = parse_mail(argument, offered, {}, refusal);
    if (!s) throw std::runtime_error(std::string(argument) + ": " + refusal.str());
    return *s;
}
Recipient recipient(std::string_view argument, const Extensions& offered = everything, bool utf8 = true) {
    Reply refusal;
    auto r = parse_rcpt(argument, offered, utf8, {}, refusal);
    if (!r) throw std::runtime_error(std::string(argument) + ": " + refusal.str());
    return *r;
}

const std::string bad_from = "501 5.1.7", bad_to = "501 5.1.3", syntax = "501 5.5.4", unknown = "555 5.5.4",
                  no_utf8 = "553 5.6.7";

struct Mailbox {
    std::string local, domain;
};

// RFC 5321 4.1.2, 4.1.3 and the examples of its sections 2.3.11, 3 and appendix D.
const Mailbox mailboxes[] = {
    {"Smith", "bar.com"},
    {"Jones", "foo.com"},
    {"Green", "foo.com"},
    {"Brown", "foo.com"},
    {"JQP", "bar.com"},
    {"userx", "y.foo.org"},
    {"userc", "d.bar.org"},
    {"a", "b"},
    {"A", "B.C"},
    {"a.b.c", "d"},
    {"1", "2"},
    {"a", "1.2.3"},
    {"!#$%&'*+-/=?^_`{|}~", "x"},
    {"user+tag", "example.org"},
    {"-a-", "x"},
    {"a=b", "x"},
    {"a/b", "x"},
    {"postmaster", "x"},
    {"a", "x-y"},
    {"a", "x--y.z"},
    {"a", "1a"},
    {"a", "xn--80ak6aa92e.com"},
    {"a", "Example.ORG"},
    {"\"\"", "x"},
    {"\" \"", "x"},
    {"\"a b\"", "x"},
    {"\"a@b\"", "x"},
    {"\"a..b\"", "x"},
    {"\".a.\"", "x"},
    {"\"<>\"", "x"},
    {"\"a>b\"", "x"},
    {"\"a\\\"b\"", "x"},
    {"\"a\\\\b\"", "x"},
    {"\"\\a\"", "x"},
    {"\"\\ \"", "x"},
    {"\"\\~\"", "x"},
    {"\"@,:;()[]\"", "x"},
    {"\"a\\@b\"", "x"},
    {"\"Joe.Smith\"", "x"},
    {"\"a SIZE=1\"", "x"},
    {"a", "[192.0.2.1]"},
    {"a", "[0.0.0.0]"},
    {"a", "[255.255.255.255]"},
    {"a", "[IPv6:2001:db8::1]"},
    {"a", "[IPv6:::1]"},
    {"a", "[IPv6:::]"},
    {"a", "[IPv6:1:2:3:4:5:6:7:8]"},
    {"a", "[ipv6:2001:DB8::a]"},
    {"a", "[IPv6:::ffff:192.0.2.1]"},
    {"a", "[IPv6:1:2:3:4:5:6:192.0.2.1]"},
    {"a", "[IPv6:1::]"},
    {"a", "[IPv6:fe80::1]"},
    {"\"a b\"", "[192.0.2.1]"},
};

const std::string no_mailboxes[] = {
    "a",
    "@",
    "@x",
    "a@",
    "a b@x",
    " a@x",
    "a@x ",
    "a @x",
    "a@ x",
    "a@x y",
    "a@b@c",
    "a@@b",
    ".a@x",
    "a.@x",
    "a..b@x",
    ".@x",
    "a@.x",
    "a@x.",
    "a@x..y",
    "a@.",
    "a@-x",
    "a@x-",
    "a@x.-y",
    "a@x-.y",
    "a@-",
    "a@x_y",
    "a@x!y",
    "a@x,y",
    "a@x;",
    "a(c)@x",
    "a,b@x",
    "a:b@x",
    "a;b@x",
    "a<b@x",
    "a>b@x",
    "a[b@x",
    "a\\b@x",
    "a\\@b@x",
    "a\"b@x",
    "\"a@x",
    "a\"@x",
    "\"a\"b@x",
    "a\"b\"@x",
    "\"a\".b@x",
    "a.\"b\"@x",
    "\"a\"\"b\"@x",
    "\"a\\\"@x",
    "\"@x",
    "\"\\\"@x",
    "\"a\"",
    "\"a\"@",
    "<a@x>",
    "a@<x>",
    "a@x>",
    "a@(c)x",
    "a@x(c)",
    "a@x:25",
    "a@x/",
    "a@[",
    "a@[]",
    "a@]",
    "a@[192.0.2.1",
    "a@192.0.2.1]",
    "a@[192.0.2.1]x",
    "a@[192.0.2.1].x",
    "a@x[192.0.2.1]",
    "a@[192.0.2]",
    "a@[192.0.2.256]",
    "a@[192.0.2.1.1]",
    "a@[192.0.2.-1]",
    "a@[192.0.2.]",
    "a@[ 192.0.2.1]",
    "a@[192.0.2.1 ]",
    "a@[0x7f.0.0.1]",
    "a@[2130706433]",
    "a@[2001:db8::1]",
    "a@[::1]",
    "a@[IPv6:]",
    "a@[IPv6]",
    "a@[IPv6::]",
    "a@[IPv6:192.0.2.1]",
    "a@[IPv6:1:2:3:4:5:6:7]",
    "a@[IPv6:1:2:3:4:5:6:7:8:9]",
    "a@[IPv6:1::2::3]",
    "a@[IPv6:12345::]",
    "a@[IPv6:g::]",
    "a@[IPv6:::1%lo]",
    "a@[IPv6:::1/64]",
    "a@[IPv6: ::1]",
    "a@[IPv6:::ffff:192.0.2.256]",
    "a@[IPv4:192.0.2.1]",
    "a@[IPv5:x]",
    "a@[tag:x]",
    "a@[:x]",
    "a@[x]",
    "a@[example.org]",
    "a@[[192.0.2.1]]",
    "a@[\\192.0.2.1]",
    "a@[192.0.2.1\\]",
    "a@[IPv6:1:2:3:4:5:6:7:192.0.2.1]",
    "a\r\n@x",
    "a@x\r\n",
    "a\n@x",
    "a@x\n",
    "\ta@x",
    "a@x\t",
    "a@\tx",
    "a@#1",
};

}  // namespace

TEST_CASE("a mailbox of the grammar is read as it is written") {
    for (const auto& m : mailboxes) {
        const auto whole = m.local + '@' + m.domain;
        CAPTURE(whole);
        const auto a = Address::parse(whole);
        REQUIRE(a);
        CHECK(a->local == m.local);
        CHECK(a->domain == m.domain);
        CHECK(a->str() == whole);
        CHECK(!a->null());
        CHECK(!a->utf8());
        CHECK(text(Address::parse(whole, false)) == whole);

        CHECK(mail("FROM:<" + whole + ">") == whole);
        CHECK(rcpt("TO:<" + whole + ">") == whole);
        CHECK(sender("FROM:<" + whole + "> SIZE=7").raw == '<' + whole + '>');
        CHECK(recipient("TO:<" + whole + "> NOTIFY=NEVER").raw == '<' + whole + '>');
        CHECK(!sender("FROM:<" + whole + ">").unset());
        CHECK(Sender(whole).raw == '<' + whole + '>');
        CHECK(Recipient(whole).str() == whole);
    }
}

TEST_CASE("what is no mailbox is refused everywhere") {
    for (const auto& whole : no_mailboxes) {
        CAPTURE(whole);
        CHECK(text(Address::parse(whole)) == "(refused)");
        CHECK(text(Address::parse(whole, false)) == "(refused)");
        CHECK(mail("FROM:<" + whole + ">") == bad_from);
        CHECK(rcpt("TO:<" + whole + ">") == bad_to);
        CHECK_THROWS_AS(Sender{whole}, std::invalid_argument);
        CHECK_THROWS_AS(Recipient{whole}, std::invalid_argument);
    }
}

TEST_CASE("no control octet is in a mailbox, quoted or not, nor in a parameter") {
    for (int c = 0; c < 256; ++c) {
        if (c >= 32 && c < 127) continue;
        CAPTURE(c);
        const std::string o(1, char(c));
        for (const auto& whole :
             {"a" + o + "@x", o + "@x", "a@" + o, "a@x" + o, "a@x" + o + "y", "\"" + o + "\"@x", "\"a" + o + "b\"@x",
              "\"\\" + o + "\"@x", "a@[" + o + "192.0.2.1]", "a@[192.0.2.1" + o + "]", "a@[IPv6:::1" + o + "]"}) {
            CHECK(text(Address::parse(whole)) == "(refused)");
            CHECK(mail("FROM:<" + whole + "> SMTPUTF8", everything) == bad_from);
            CHECK(rcpt("TO:<" + whole + ">", everything, true) == bad_to);
            CHECK(rcpt("TO:<" + whole + ">")[0] == '5');
        }
        for (const auto& argument :
             {"FROM:<a@x>" + o, "FROM:" + o + "<a@x>", "FROM:<a@x> SIZE=1" + o, "FROM:<a@x> SIZE" + o + "=1",
              "FROM:<a@x>" + o + "SIZE=1", "FROM:<a@x> ENVID=a" + o, "FROM:<a@x> " + o, o + "FROM:<a@x>",
              "FROM" + o + ":<a@x>"}) {
            CHECK(mail(argument, everything).substr(0, 1) == "5");
            CHECK(mail(argument + " SMTPUTF8", everything).substr(0, 3) == "501");
        }
    }
    // Encoded ones are no better.
    for (const std::string code : {"00", "09", "0A", "0D", "1F", "7F"}) {
        CAPTURE(code);
        CHECK(mail("FROM:<a@x> ENVID=a+" + code, everything) == syntax);
        CHECK(rcpt("TO:<a@x> ORCPT=rfc822;a+" + code + "@x", everything) == syntax);
    }
}

TEST_CASE("the parts of a mailbox have their limits") {
    struct Row {
        std::size_t local, domain;
        bool fine;
    };
    const Row rows[] = {{63, 1, true},   {64, 1, true},   {65, 1, false},   {1, 254, true},  {1, 255, true},
                        {1, 256, false}, {64, 255, true}, {65, 255, false}, {64, 256, false}};
    for (const auto& r : rows) {
        CAPTURE(r.local);
        CAPTURE(r.domain);
        REQUIRE(domain_of(r.domain).size() == r.domain);
        for (const auto& local :
             {std::string(r.local, 'l'), r.local > 2 ? '"' + std::string(r.local - 2, ' ') + '"' : "l"s}) {
            const auto whole = local + '@' + domain_of(r.domain);
            CHECK(text(Address::parse(whole)) == (r.fine ? whole : "(refused)"));
            CHECK(mail("FROM:<" + whole + ">") == (r.fine ? whole : bad_from));
            CHECK(rcpt("TO:<" + whole + ">") == (r.fine ? whole : bad_to));
        }
    }
    for (std::size_t label : {62, 63, 64}) {
        CHECK(bool(Address::parse("a@" + std::string(label, 'd'))) == (label < 64));
        CHECK(bool(Address::parse("a@x." + std::string(label, 'd') + ".y")) == (label < 64));
    }
    CHECK(!Address::parse("a@" + times(100'000, "x.") + "y"));
    CHECK(!Address::parse(std::string(1 << 20, 'a')));
    CHECK(!Address::parse('"' + std::string(1 << 20, '\\')));
    CHECK(!Address::parse("a@[" + std::string(1 << 20, '1') + "]"));
}

TEST_CASE("an address literal is of the grammar, which is not that of inet_pton") {
    struct Row {
        std::string literal;
        bool fine;
    };
    const Row rows[] = {
        // RFC 5321 4.1.3: Snum = 1*3DIGIT.
        {"192.000.002.001", true},
        {"192.0.2.0001", false},
        {"192.0.2.999", false},
        {"192..2.1", false},
        {".0.2.1", false},
        {"192.0.2.1.", false},
        {"192.0.2.1:25", false},
        {"IPv6:::ffff:192.000.002.001", true},
        {"IPv6:::ffff:192.0.2.0001", false},
        {"IPv6:192.0.2.1::", false},
        {"IPv6:::192.0.2.1:1", false},
        // "The "::" represents at least 2 16-bit groups of zeros."
        {"IPv6:1:2:3:4:5:6::", true},
        {"IPv6:1:2:3:4:5:6:7::", false},
        {"IPv6:1:2:3::5:6:7", true},
        {"IPv6:1:2:3::5:6:7:8", false},
        {"IPv6:::3:4:5:6:7:8", true},
        {"IPv6:::2:3:4:5:6:7:8", false},
        {"IPv6:1:2:3:4::192.0.2.1", true},
        {"IPv6:1:2:3:4:5::192.0.2.1", false},
        {"IPv6:::3:4:5:6:192.0.2.1", true},
        {"IPv6:::2:3:4:5:6:192.0.2.1", false},
        {"IPv6:1:2:3:4:5:192.0.2.1", false},
        {"IPv6::1:2:3:4:5:6:7", false},
        {"IPv6:1:2:3:4:5:6:7:", false},
        {"IPv6::::", false},
        {"IPv6:0001:02:003:4:5:6:7:8", true},
    };
    for (const auto& r : rows) {
        CAPTURE(r.literal);
        const auto whole = "a@[" + r.literal + ']';
        CHECK(mail("FROM:<" + whole + ">") == (r.fine ? whole : bad_from));
        CHECK(text(Address::parse(whole)) == (r.fine ? whole : "(refused)"));
    }
}

TEST_CASE("UTF-8 is in a mailbox when it is allowed, and only when it is UTF-8") {
    struct Row {
        std::string local, domain;
        bool fine;
    };
    const Row rows[] = {
        {"j\u00f6rg", "x", true},
        {"a", "b\u00fccher.example", true},
        {"\u7528\u6237", "\u4f8b\u5b50.\u6d4b\u8bd5", true},
        {"\"\u00e9 \u00e8\"", "x", true},
        {"\U0001F4E7", "x", true},
        {"\u0080", "x", true},
        {"\U0010FFFF", "x", true},
        {"\"\\\u00e9\"", "x", false},  // RFC 6531 3.3 leaves quoted-pairSMTP as it was
        {"a", "[192.0.2.1\u00e9]", false},
        {"a", "[\u00e9]", false},
        {"\xC3", "x", false},
        {"\xC3(", "x", false},
        {"\xA9", "x", false},
        {"\xFF", "x", false},
        {"\xFE", "x", false},
        {"\xC0\xAE", "x", false},
        {"\xC1\xBF", "x", false},
        {"\xE0\x80\xAF", "x", false},
        {"\xE0\x9F\xBF", "x", false},  // over-long
        {"\xED\xA0\x80", "x", false},
        {"\xED\xBF\xBF", "x", false},  // surrogates
        {"\xF0\x8F\xBF\xBF", "x", false},
        {"\xF4\x90\x80\x80", "x", false},
        {"\xF5\x80\x80\x80", "x", false},
        {"a", "\xC3", false},
        {"a", "\xC3\xA9\xC3", false},
        {"\xE2\x82", "x", false},
        {"\xC3\"\xA9\"", "x", false},
    };
    for (const auto& r : rows) {
        const auto whole = r.local + '@' + r.domain;
        CAPTURE(whole);
        CHECK(text(Address::parse(whole)) == (r.fine ? whole : "(refused)"));
        CHECK(text(Address::parse(whole, false)) == "(refused)");
        CHECK(mail("FROM:<" + whole + "> SMTPUTF8", everything) == (r.fine ? whole : bad_from));
        CHECK(rcpt("TO:<" + whole + ">", everything, true) == (r.fine ? whole : bad_to));
        // Not announced, or not offered. Of two faults either may be named.
        for (const auto& answer : {mail("FROM:<" + whole + ">", everything), mail("FROM:<" + whole + "> SMTPUTF8"),
                                   rcpt("TO:<" + whole + ">", everything, false)})
            CHECK((answer == no_utf8 || (!r.fine && answer.starts_with("501"))));
        if (r.fine) {
            CHECK(Address::parse(whole)->utf8());
            CHECK(Sender(whole).smtputf8);
        }
    }
    // Octets are counted, not characters.
    CHECK(Address::parse(times(32, "\u00e9") + "@x"));
    CHECK(!Address::parse(times(32, "\u00e9") + "a@x"));
    // ASCII may come with SMTPUTF8 all the same.
    CHECK(sender("FROM:<a@x> SMTPUTF8").smtputf8);
    CHECK(sender("FROM:<a@x> smtputf8 SIZE=1").smtputf8);
    CHECK(!sender("FROM:<a@x>").smtputf8);
    CHECK(!Sender("a@x").smtputf8);
}

TEST_CASE("a label of UTF-8 is as long as its A-label, not as its octets") {
    // RFC 5890 2.3.2.1: 63 is the limit of the A-label. This one is 66 octets, and xn--fsqaaaaaaaaaaaaaaaaaaaaa.
    const auto label = times(22, "\u4f8b");
    CHECK(mail("FROM:<a@" + label + ".example> SMTPUTF8", everything) == "a@" + label + ".example");
    CHECK(!Address::parse("a@" + times(86, "\u4f8b")));  // 258 octets: the domain has its limit
}

TEST_CASE("the word SMTPUTF8 within a local part announces nothing") {
    CHECK(!sender("FROM:<\"a SMTPUTF8 b\"@x>").smtputf8);
    CHECK(!sender("FROM:<\" SMTPUTF8\"@x> SIZE=1").smtputf8);
    CHECK(mail("FROM:<\"\u00e9 SMTPUTF8 \"@x>", everything) == no_utf8);
    CHECK(!sender("FROM:<a@x> ENVID=SMTPUTF8").smtputf8);
}

TEST_CASE("the whole of RFC 3629 is UTF-8, and nothing else") {
    for (unsigned long c = 0; c < 0x110000; ++c) {
        std::string s;
        if (c < 0x80) s = {char(c)};
        else if (c < 0x800) s = {char(0xC0 | c >> 6), char(0x80 | (c & 63))};
        else if (c < 0x10000) s = {char(0xE0 | c >> 12), char(0x80 | (c >> 6 & 63)), char(0x80 | (c & 63))};
        else s = {char(0xF0 | c >> 18), char(0x80 | (c >> 12 & 63)), char(0x80 | (c >> 6 & 63)), char(0x80 | (c & 63))};
        const bool surrogate = c >= 0xD800 && c <= 0xDFFF;
        if (valid_utf8(s) == surrogate) FAIL_CHECK("U+" << c);
        if (s.size() > 1 && valid_utf8(s.substr(0, s.size() - 1))) FAIL_CHECK("cut: U+" << c);
        if (s.size() > 1 && valid_utf8(s.substr(1))) FAIL_CHECK("headless: U+" << c);
    }
    CHECK(valid_utf8(""));
    CHECK(valid_utf8("a\0b"s));
    for (const std::string& bad : {"\xC0\x80"s, "\xE0\x80\x80"s, "\xF0\x80\x80\x80"s, "\xF4\x90\x80\x80"s,
                                   "\xF8\x88\x80\x80\x80"s, "\xE2(\xA1"s, "\xE2\x82("s, "\xF0\x9F\x93"s})
        CHECK(!valid_utf8(bad));
}

TEST_CASE("the null path is a sender and no recipient") {
    CHECK(mail("FROM:<>") == "null");
    CHECK(mail("FROM:<> SIZE=10") == "null");
    CHECK(sender("FROM:<>").null());
    CHECK(!sender("FROM:<>").unset());
    CHECK(sender("FROM:<>").raw == "<>");
    CHECK(Sender().unset());
    CHECK(Sender().null());
    CHECK(!Sender("").unset());
    CHECK(Sender("").null());
    CHECK(Sender("").raw == "<>");
    CHECK(rcpt("TO:<>") == bad_to);
    CHECK_THROWS_AS(Recipient(""), std::invalid_argument);
    for (auto bad : {"FROM:< >", "FROM:<@x:>", "FROM:<\"\">", "FROM:<@>", "FROM:", "FROM:<", "FROM:>", "FROM:<>>",
                     "FROM:<<>>", "FROM:<>x"}) {
        CAPTURE(std::string(bad));
        CHECK(mail(bad) == bad_from);
    }
}

TEST_CASE("postmaster needs no domain as a recipient, in any case") {
    for (const std::string name : {"postmaster", "Postmaster", "POSTMASTER"}) {
        CHECK(rcpt("TO:<" + name + ">") == name);
        CHECK(rcpt("TO:<" + name + "> NOTIFY=NEVER", everything) == name);
        CHECK(recipient("TO:<" + name + ">").domain == "");
        CHECK(recipient("TO:<" + name + ">").raw == '<' + name + '>');
        CHECK(rcpt("TO:<" + name + "@x>") == name + "@x");
        CHECK(mail("FROM:<" + name + ">") == bad_from);
        CHECK(Recipient(name).str() == name);
        CHECK_THROWS_AS(Sender{name}, std::invalid_argument);
    }
    for (const std::string bad :
         {"<postmaste>", "<postmasters>", "<postmaster", "postmaster", "<postmaster >", "< postmaster>",
          "<\"postmaster\">", "<@x:postmaster>", "<postmaster@>", "<postmaster>x", "<abuse>", "<postmaster>>"})
        CHECK(rcpt("TO:" + bad) == bad_to);
}

TEST_CASE("a source route is read and forgotten") {
    struct Row {
        const char *path, *address;
    };
    const Row rows[] = {{"<@a:b@c>", "b@c"},
                        {"<@hosta.int,@jkl.org:userc@d.bar.org>", "userc@d.bar.org"},  // appendix D, F.2
                        {"<@a,@b,@c,@d:e@f>", "e@f"},
                        {"<@a:\"x:y\"@z>", "\"x:y\"@z"}};
    for (const auto& r : rows) {
        CAPTURE(std::string(r.path));
        CHECK(mail("FROM:"s + r.path) == r.address);
        CHECK(rcpt("TO:"s + r.path) == r.address);
        CHECK(sender("FROM:"s + r.path).raw == r.path);
        CHECK(!Address::parse(std::string(r.path).substr(1, std::string(r.path).size() - 2)));
    }
    for (const std::string bad : {"<@a b@c>", "<@a,b@c>", "<@a,:b@c>", "<@a,@b@c>", "<@:b@c>", "<@a:>", "<@a::b@c>",
                                  "<@a: b@c>", "<@a, @b:c@d>", "<@a;b@c>", "<,@a:b@c>", "<a@b:c@d>", "<@a,@:b@c>",
                                  "<@a:@b:c@d>", "<@a>", "<@-a:b@c>", "<@a..b:c@d>"}) {
        CAPTURE(bad);
        CHECK(mail("FROM:" + bad) == bad_from);
        CHECK(rcpt("TO:" + bad) == bad_to);
    }
}

TEST_CASE("a path stands between its brackets, directly behind the colon") {
    struct Row {
        const char* argument;
        std::string answer;
    };
    const Row rows[] = {
        {"FROM:<a@b>", "a@b"},
        {"from:<a@b>", "a@b"},
        {"FrOm:<a@b>", "a@b"},
        {"FROM:<a@b> ", "a@b"},
        {"FROM:<a@b>   SIZE=1", "a@b"},
        {"", syntax},
        {"F", syntax},
        {"FROM", syntax},
        {"FROM <a@b>", syntax},
        {"FROM :<a@b>", syntax},
        {" FROM:<a@b>", syntax},
        {"TO:<a@b>", syntax},
        {"<a@b>", syntax},
        {"FROM:", bad_from},
        {"FROM: <a@b>", bad_from},
        {"FROM:a@b", bad_from},
        {"FROM: a@b", bad_from},
        {"FROM:<a@b", bad_from},
        {"FROM:a@b>", bad_from},
        {"FROM:<a@b>>", bad_from},
        {"FROM:<<a@b>", bad_from},
        {"FROM:<<a@b>>", bad_from},
        {"FROM:<a@b>SIZE=1", bad_from},
        {"FROM:<a@b>,<c@d>", bad_from},
        {"FROM:<a@b>\tSIZE=1", bad_from},
        {"FROM:Name <a@b>", bad_from},
        {"FROM:\"Name\" <a@b>", bad_from},
        {"FROM:<a@b> <c@d>", syntax},
        {"FROM:<a@b> (c)", syntax},
        {"FROM:<a@b>\r", bad_from},
        {"FROM:<a@b>\r\nRCPT TO:<c@d>", bad_from},
        {"FROM:(c)<a@b>", bad_from},
    };
    for (const auto& r : rows) {
        CAPTURE(std::string(r.argument));
        CHECK(mail(r.argument) == r.answer);
    }
    CHECK(rcpt("to:<a@b>") == "a@b");
    CHECK(rcpt("FROM:<a@b>") == syntax);
    CHECK(rcpt("TO: <a@b>") == bad_to);
    CHECK(mail("FROM:<a@b>\0"s) == bad_from);
    CHECK(mail("FROM:<a@b\0>"s) == bad_from);
}

TEST_CASE("leniency forgives what it names, and nothing else") {
    const Leniency none, brackets{.missing_brackets = true}, blank{.blank_after_colon = true}, both{true, true};
    struct Row {
        const char* path;
        std::string none, brackets, blank, both;
    };
    const std::string ok = "a@b", no = bad_from;
    const Row rows[] = {
        {"<a@b>", ok, ok, ok, ok},
        {"a@b", no, ok, no, ok},
        {" <a@b>", no, no, ok, ok},
        {"   <a@b>", no, no, ok, ok},
        {" a@b", no, no, no, ok},
        {"a@b SIZE=1", no, ok, no, ok},
        {" <a@b> SIZE=1", no, no, ok, ok},
        {"<a@b", no, no, no, no},
        {"a@b>", no, no, no, no},
        {"\t<a@b>", no, no, no, no},
        {"", no, no, no, no},
        {" ", no, no, no, no},
        {"a", no, no, no, no},
        {"a b@c", no, no, no, no},
        {"< a@b>", no, no, no, no},
        {"<a@b >", no, no, no, no},
        {"a@b,c@d", no, no, no, no},
    };
    for (const auto& r : rows) {
        CAPTURE(std::string(r.path));
        const auto argument = "FROM:"s + r.path;
        CHECK(mail(argument, {}, none) == r.none);
        CHECK(mail(argument, {}, brackets) == r.brackets);
        CHECK(mail(argument, {}, blank) == r.blank);
        CHECK(mail(argument, {}, both) == r.both);
    }
    CHECK(mail("FROM :<a@b>", {}, both) == syntax);
    CHECK(mail("FROM: <>", {}, blank) == "null");
    CHECK(rcpt("TO:a@b", {}, false, brackets) == "a@b");
    CHECK(rcpt("TO: <Postmaster>", {}, false, blank) == "Postmaster");
    CHECK(rcpt("TO:", {}, false, both) == bad_to);
    CHECK(rcpt("TO: <>", {}, false, both) == bad_to);
}

TEST_CASE("the parameters of MAIL") {
    struct Row {
        std::string parameters, answer;
    };
    const std::string ok = "a@b";
    const Row rows[] = {
        {"SIZE=0", ok},
        {"size=1", ok},
        {"SIZE=18446744073709551615", ok},
        {"SIZE=18446744073709551616", ok},
        {"SIZE=99999999999999999999", ok},
        {"SIZE=00000000000000000001", ok},
        {"SIZE=000000000000000000001", syntax},
        {"SIZE=100000000000000000000", syntax},
        {"SIZE", syntax},
        {"SIZE=", syntax},
        {"SIZE=-1", syntax},
        {"SIZE=+1", syntax},
        {"SIZE=1k", syntax},
        {"SIZE=1.0", syntax},
        {"SIZE=0x10", syntax},
        {"SIZE==1", syntax},
        {"SIZE =1", syntax},
        {"SIZE= 1", syntax},
        {"SIZE=1=1", syntax},
        {"SIZE=1 SIZE=1", syntax},
        {"SIZE=1 size=2", syntax},
        {"BODY=7BIT", ok},
        {"BODY=8BITMIME", ok},
        {"body=8bitmime", ok},
        {"BODY=BINARYMIME", ok},
        {"BODY", syntax},
        {"BODY=", syntax},
        {"BODY=8BIT", syntax},
        {"BODY=8BITMIME BODY=7BIT", syntax},
        {"BODY=\"7BIT\"", syntax},
        {"SMTPUTF8", ok},
        {"smtputf8", ok},
        {"SMTPUTF8=", syntax},
        {"SMTPUTF8=1", syntax},
        {"SMTPUTF8 SMTPUTF8", syntax},
        {"RET=FULL", ok},
        {"RET=hdrs", ok},
        {"RET", syntax},
        {"RET=", syntax},
        {"RET=HEADERS", syntax},
        {"RET=FULL RET=FULL", syntax},
        {"ENVID=QQ314159", ok},
        {"ENVID=a+2Bb", ok},
        {"ENVID=a+20b", ok},
        {"ENVID", syntax},
        {"ENVID=", syntax},
        {"ENVID=a=b", syntax},
        {"ENVID=a+2b", syntax},
        {"ENVID=a+", syntax},
        {"ENVID=a+2", syntax},
        {"ENVID=a+ZZ", syntax},
        {"ENVID=+E9", syntax},
        {"ENVID=a ENVID=a", syntax},
        {"ENVID=" + std::string(99, 'e'), ok},
        {"ENVID=" + std::string(100, 'e'), ok},
        {"ENVID=" + std::string(101, 'e'), syntax},
        {"SIZE=1 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x", ok},
        {"ENVID=x RET=HDRS  SMTPUTF8 BODY=8BITMIME SIZE=1 ", ok},
        {"X", unknown},
        {"X=1", unknown},
        {"X-Y=1", unknown},
        {"1=2", unknown},
        {"AUTH=<>", unknown},
        {"NOTIFY=NEVER", unknown},
        {"ORCPT=rfc822;a@b", unknown},
        {"SIZES=1", unknown},
        {"SIZ=1", unknown},
        {"BY=1;R", unknown},
        {"HOLDFOR=1", unknown},
        {"SIZE=1 X", unknown},
        {"-X=1", syntax},
        {"=1", syntax},
        {"=", syntax},
        {"X_Y=1", syntax},
        {"X:1", syntax},
        {"X=1,Y;Z", unknown},
        {"X=1,Y=2", syntax},
        {"X=", syntax},
        {"\"X\"", syntax},
        {"<", syntax},
        {"X=\t", syntax},
        {"SIZE=1\tBODY=7BIT", syntax},
        {"SIZE=1,BODY=7BIT", syntax},
        {"SIZE=1;BODY=7BIT", syntax},
        {"X X", syntax},
    };
    for (const auto& r : rows) {
        CAPTURE(r.parameters);
        CHECK(mail("FROM:<a@b> " + r.parameters, everything) == r.answer);
        CHECK(mail("FROM:<> " + r.parameters, everything) == (r.answer == ok ? "null" : r.answer));
    }
    CHECK(sender("FROM:<a@b> SIZE=0").size == 0);
    CHECK(sender("FROM:<a@b> SIZE=18446744073709551615").size == UINT64_MAX);
    CHECK(sender("FROM:<a@b> SIZE=18446744073709551616").size == UINT64_MAX);
    CHECK(!sender("FROM:<a@b>").size);
    CHECK(sender("FROM:<a@b>").body == BodyType::seven_bit);
    CHECK(sender("FROM:<a@b> BODY=7bit").body == BodyType::seven_bit);
    CHECK(sender("FROM:<a@b> BODY=8BITMIME").body == BodyType::eight_bit_mime);
    CHECK(sender("FROM:<a@b> BODY=BinaryMIME").body == BodyType::binary_mime);
    CHECK(sender("FROM:<a@b>").ret == Return::unsaid);
    CHECK(sender("FROM:<a@b> RET=FULL").ret == Return::full);
    CHECK(sender("FROM:<a@b> RET=HDRS").ret == Return::headers);
    CHECK(sender("FROM:<a@b> ENVID=a+2Bb+20c").envid == "a+b c");
    CHECK(!sender("FROM:<a@b>").envid);
    const auto s = sender("FROM:<a@b> size=1 Body=8bitMIME SMTPUTF8");
    REQUIRE(s.parameters.size() == 3);
    CHECK(s.parameters[0].keyword == "SIZE");
    CHECK(s.parameters[0].value == "1");
    CHECK(s.parameters[1].keyword == "BODY");
    CHECK(s.parameters[1].value == "8bitMIME");
    CHECK(s.parameters[2].keyword == "SMTPUTF8");
    CHECK(!s.parameters[2].has_value);
}

TEST_CASE("the parameters of RCPT") {
    struct Row {
        std::string parameters, answer;
    };
    const std::string ok = "a@b";
    const Row rows[] = {
        {"NOTIFY=NEVER", ok},
        {"notify=never", ok},
        {"NOTIFY=SUCCESS", ok},
        {"NOTIFY=FAILURE,DELAY", ok},
        {"NOTIFY=delay,Success,FAILURE", ok},
        {"NOTIFY", syntax},
        {"NOTIFY=", syntax},
        {"NOTIFY=NEVER,SUCCESS", syntax},
        {"NOTIFY=SUCCESS,NEVER", syntax},
        {"NOTIFY=NEVER,NEVER", syntax},
        {"NOTIFY=SUCCESS,", syntax},
        {"NOTIFY=,SUCCESS", syntax},
        {"NOTIFY=,", syntax},
        {"NOTIFY=SUCCESS,,DELAY", syntax},
        {"NOTIFY=SUCCESS,SUCCESS", syntax},
        {"NOTIFY=SUCCESS DELAY", unknown},
        {"NOTIFY=SUCCESS;DELAY", syntax},
        {"NOTIFY=YES", syntax},
        {"NOTIFY=NEVER NOTIFY=NEVER", syntax},
        {"ORCPT=rfc822;Bob@Example.COM", ok},
        {"orcpt=RFC822;a+2Bb@c", ok},
        {"ORCPT=rfc822;\"a+20b\"@c", ok},
        {"ORCPT=x400;/S=a", syntax},
        {"ORCPT=x400;/S+3Da", ok},
        {"ORCPT=utf-8;a\\x{E9}@c", ok},
        {"ORCPT", syntax},
        {"ORCPT=", syntax},
        {"ORCPT=rfc822", syntax},
        {"ORCPT=;a@b", syntax},
        {"ORCPT=rfc822;a+@b", syntax},
        {"ORCPT=rfc822;a+2b@c", syntax},
        {"ORCPT=rf@c822;a@b", syntax},
        {"ORCPT=rfc822;a@b ORCPT=rfc822;a@b", syntax},
        {"ORCPT=rfc822;+E9@c", syntax},
        {"ORCPT=rfc822;" + std::string(492, 'o'), ok},
        {"ORCPT=rfc822;" + std::string(493, 'o'), ok},
        {"ORCPT=rfc822;" + std::string(494, 'o'), syntax},
        {"NOTIFY=DELAY ORCPT=rfc822;x@y", ok},
        {"ORCPT=rfc822;x@y NOTIFY=DELAY", ok},
        {"SIZE=1", unknown},
        {"BODY=7BIT", unknown},
        {"SMTPUTF8", unknown},
        {"RET=FULL", unknown},
        {"X", unknown},
        {"RRVS=x", unknown},
        {"=x", syntax},
        {"-", syntax},
        {"NOTIFY:NEVER", syntax},
    };
    for (const auto& r : rows) {
        CAPTURE(r.parameters);
        CHECK(rcpt("TO:<a@b> " + r.parameters, everything) == r.answer);
    }
    struct Said {
        const char *value, *str;
    };
    for (const Said& s : {Said{"NEVER", "NEVER"},
                          {"SUCCESS", "SUCCESS"},
                          {"DELAY,success", "SUCCESS,DELAY"},
                          {"delay,failure,success", "SUCCESS,FAILURE,DELAY"}}) {
        const auto n = recipient("TO:<a@b> NOTIFY="s + s.value).notify;
        CHECK(n.said());
        CHECK(n.str() == s.str);
    }
    CHECK(!recipient("TO:<a@b>").notify.said());
    CHECK(recipient("TO:<a@b>").notify.str() == "");
    const auto o = recipient("TO:<a@b> ORCPT=rfc822;a+2Bb+40c").orcpt;
    REQUIRE(o);
    CHECK(o->type == "rfc822");
    CHECK(o->address == "a+b@c");
    CHECK(recipient("TO:<a@b> ORCPT=utf-8;\u00e9@c").orcpt->address == "\u00e9@c");  // RFC 6533 3
    CHECK(rcpt("TO:<a@b> ORCPT=utf-8;\u00e9@c", everything, false) == no_utf8);
    CHECK(recipient("TO:<a@b>").id == 0);
}

TEST_CASE("a parameter of what is not offered is unknown") {
    struct Row {
        const char* parameter;
        bool Extensions::*offered;
    };
    const Row of_mail[] = {{"SIZE=1", &Extensions::size},
                           {"BODY=8BITMIME", &Extensions::eight_bit_mime},
                           {"SMTPUTF8", &Extensions::smtputf8},
                           {"RET=FULL", &Extensions::dsn},
                           {"ENVID=x", &Extensions::dsn}};
    for (const auto& r : of_mail) {
        CAPTURE(std::string(r.parameter));
        auto offered = nothing;
        CHECK(mail("FROM:<a@b> "s + r.parameter, offered) == unknown);
        offered.*r.offered = true;
        CHECK(mail("FROM:<a@b> "s + r.parameter, offered) == "a@b");
        offered = everything;
        offered.binary_mime = false;  // it brings BODY along, see below
        offered.*r.offered = false;
        CHECK(mail("FROM:<a@b> "s + r.parameter, offered) == unknown);
    }
    for (const std::string parameter : {"NOTIFY=NEVER", "ORCPT=rfc822;a@b"}) {
        CHECK(rcpt("TO:<a@b> " + parameter, nothing) == unknown);
        auto offered = nothing;
        offered.dsn = true;
        CHECK(rcpt("TO:<a@b> " + parameter, offered) == "a@b");
    }
    CHECK(mail("FROM:<a@b> BODY=BINARYMIME") == syntax);
    auto unchunked = everything;
    unchunked.chunking = false;
    CHECK(mail("FROM:<a@b> BODY=BINARYMIME", unchunked) == syntax);
    auto binary_only = everything;
    binary_only.eight_bit_mime = false;
    CHECK(mail("FROM:<a@b> BODY=BINARYMIME", binary_only) == "a@b");
    CHECK(mail("FROM:<a@b> BODY=7BIT", binary_only) == "a@b");
    CHECK(mail("FROM:<a@b> BODY=8BITMIME", binary_only) == syntax);
    CHECK(mail("FROM:<a@b>", nothing) == "a@b");
    CHECK(!sender("FROM:<\"a SMTPUTF8 \"@b>", nothing).smtputf8);
}

TEST_CASE("parameters are bounded in number, and the refusal names no control octet") {
    std::string many;
    for (int i = 0; i < 33; ++i) {
        Reply refusal;
        // All unknown; the first is named until there are too many.
        CHECK(!parse_mail("FROM:<a@b>" + many + " X" + std::to_string(i) + "=1", everything, {}, refusal));
        CHECK(refusal.code == (i < 32 ? 555 : 501));
        many += " X" + std::to_string(i) + "=1";
    }
    Reply refusal;
    CHECK(!parse_mail("FROM:<a@b> X" + std::string(100'000, 'y'), everything, {}, refusal));
    std::string wire;
    refusal.append_to(wire);
    CHECK(wire.starts_with("555"));
}

TEST_CASE("xtext is encoded and decoded, and only xtext is") {
    std::string every;
    for (int c = 0; c < 256; ++c) every += char(c);
    const auto encoded = xtext_encode(every);
    for (char c : encoded) CHECK((c > 32 && c < 127 && c != '='));
    CHECK(xtext_decode(encoded) == every);
    struct Row {
        const char *plain, *encoded;
    };
    for (const Row& r : {Row{"", ""},
                         {"abc", "abc"},
                         {"a+b", "a+2Bb"},
                         {"a=b", "a+3Db"},
                         {"a b", "a+20b"},
                         {"\r\n", "+0D+0A"},
                         {"\xE9", "+E9"},
                         {"~!", "~!"},
                         {"\x7F", "+7F"}}) {
        CHECK(xtext_encode(r.plain) == r.encoded);
        CHECK(xtext_decode(r.encoded) == r.plain);
    }
    CHECK(xtext_decode("+41+00+FF") == "A\0\xFF"s);
    for (const auto& bad : {"+"s, "a+"s, "+4"s, "+4g"s, "+ 41"s, "+2b"s, "+G0"s, "++41"s, "a b"s, "a=b"s, "\t"s,
                            "a\r\n"s, "\0"s, "\x7F"s, "+-1"s, "+0x"s}) {
        CAPTURE(bad);
        CHECK(!xtext_decode(bad));
    }
    // RFC 3461 4: xchar ends at "~" (126).
    CHECK(!xtext_decode("\xE9"));
}

TEST_CASE("what a quoted local part means") {
    struct Row {
        const char *local, *meaning;
    };
    for (const Row& r : {Row{"a", "a"},
                         {"\"a\"", "a"},
                         {"\"a b\"", "a b"},
                         {"\"a\\\"b\"", "a\"b"},
                         {"\"\\\\\"", "\\"},
                         {"\"\\a\\b\"", "ab"},
                         {"\"\"", ""},
                         {"a.b", "a.b"},
                         {"", ""},
                         {"\"", "\""}}) {
        CAPTURE(std::string(r.local));
        CHECK(Address{r.local, "x"}.unquoted() == r.meaning);
    }
}

TEST_CASE("mailboxes are the same by the letter, domains in any case") {
    struct Row {
        const char *a, *b;
        bool same;
    };
    const Row rows[] = {
        {"a@b", "a@b", true},
        {"a@b", "a@B", true},
        {"a@b", "A@b", false},
        {"a@b", "a@c", false},
        {"\"a\"@b", "a@b", true},
        {"\"\\a\"@b", "a@b", true},
        {"\"a b\"@c", "\"a\\ b\"@c", true},
        {"postmaster@b", "POSTMASTER@b", true},
        {"postmaster@b", "postmaster@c", false},
        {"\"Postmaster\"@b", "postmaster@b", true},
        {"postmaster", "Postmaster", true},
        {"postmaster", "postmaster@b", false},
        {"", "", true},
        {"", "a@b", false},
        {"postmasters@b", "Postmasters@b", false},
        {"a@[IPv6:2001:DB8::1]", "a@[ipv6:2001:db8::1]", true},
    };
    for (const auto& r : rows) {
        CAPTURE(std::string(r.a));
        CAPTURE(std::string(r.b));
        CHECK(same_mailbox(*Address::parse(r.a), *Address::parse(r.b)) == r.same);
        CHECK(same_mailbox(*Address::parse(r.b), *Address::parse(r.a)) == r.same);
    }
    CHECK(same_text("aZ09-", "Az09-"));
    CHECK(!same_text("a", "ab"));
    CHECK(!same_text("@[", "`{"));  // what differs by 32 need not be a letter
    CHECK(!same_text("\u00c9", "\u00e9"));
}

TEST_CASE("what random octets make is an address or a refusal, and reads back as itself") {
    std::mt19937 random(7);
    const char* const pieces[] = {
        "<",      ">",     "@",       "a",         "b.c",   "\"", "\\", ":",          ",",        "[",    "]",
        " ",      "IPv6:", "::1",     "192.0.2.1", "SIZE=", "1",  ".",  "postmaster", "\xC3\xA9", "\xC3", "SMTPUTF8",
        "ENVID=", "+4",    "NOTIFY=", "NEVER",     "\r",    "\n", "\t", "-",          "="};
    for (int round = 0; round < 100'000; ++round) {
        std::string path = random() % 4 ? "<" : "";
        for (auto n = random() % 8; n > 0; --n) path += pieces[random() % std::size(pieces)];
        if (random() % 2) path += ">";
        for (auto n = random() % 4; n > 0; --n) path += pieces[random() % std::size(pieces)];
        Reply refusal{0, "", ""};
        const Leniency lenient{random() % 2 == 0, random() % 2 == 0};
        const bool utf8 = random() % 2;
        const auto s = parse_mail("FROM:" + path, everything, lenient, refusal);
        const auto r = parse_rcpt("TO:" + path, everything, utf8, lenient, refusal);
        auto clean = [](const Address& a, const std::string& raw) {
            const auto again = Address::parse(a.str(), true);
            return again && again->local == a.local && again->domain == a.domain &&
                   raw.find_first_of("\r\n\t"s + '\0') == raw.npos;
        };
        if (s && (!clean(*s, s->raw) || (s->utf8() && !s->smtputf8))) FAIL_CHECK("MAIL FROM:" << path);
        if (r && (!clean(*r, r->raw) || (r->utf8() && !utf8) || r->null())) FAIL_CHECK("RCPT TO:" << path);
        if (!s && !r && refusal.code < 500) FAIL_CHECK("no refusal of " << path);
    }
}
