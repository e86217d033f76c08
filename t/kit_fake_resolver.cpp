// kit_fake_resolver -- the kit's FakeResolver: records in wire form, and every way in which a DNS fails.
#include <doctest/doctest.h>

#include <atomic>

#include "peer.hpp"

using namespace test;
using namespace std::string_literals;
using Test::FakeResolver;
using Status = Records::Status;

namespace {

Wait soon() { return Clock::now() + 5s; }

std::string only(FakeResolver& dns, const std::string& name, RecordType type) {
    const auto records = dns.query(name, type, soon());
    REQUIRE(records.status == Status::found);
    REQUIRE(records.data.size() == 1);
    CHECK(records.error.empty());
    return records.data[0];
}

}  // namespace

TEST_CASE("FakeResolver: each record in wire form") {
    FakeResolver dns;
    for (const auto& [text, type, octets] : std::vector<std::tuple<std::string, RecordType, std::string>>{
             {"A 192.0.2.1", RecordType::A, "\xc0\x00\x02\x01"s},
             {"AAAA 2001:db8::1", RecordType::AAAA, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"s},
             {"AAAA ::1", RecordType::AAAA, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01"s},
             {"MX 10 mx1.example.org", RecordType::MX,
              "\0\x0a\x03mx1\x07"
              "example\x03org\0"s},
             {"mx  65535\tMX.example.org.", RecordType::MX,
              "\xff\xff\x02MX\x07"
              "example\x03org\0"s},
             {"MX 0 .", RecordType::MX, "\0\0\0"s},
             {"TXT \"v=spf1 \" \"-all\"", RecordType::TXT, "\x07v=spf1 \x04-all"s},
             {"TXT plain words", RecordType::TXT, "\x05plain\x05words"s},
             {"TXT \"\"", RecordType::TXT, "\0"s},
             {"TXT \"a\\\"b\\\\c\\200\\000\"", RecordType::TXT,
              "\x07"
              "a\"b\\c\xc8\0"s},
             {"TXT \"" + std::string(255, 'x') + "\"", RecordType::TXT, "\xff" + std::string(255, 'x')},
             {"TLSA 3 1 1 00fF 80", RecordType::TLSA, "\x03\x01\x01\x00\xff\x80"s},
         }) {
        const auto &record = text, &expected = octets;
        CAPTURE(record);
        dns.remove("example.org");
        dns.add("example.org", record);
        CHECK((only(dns, "example.org", type) == expected));
    }
}

TEST_CASE("FakeResolver: what the library takes apart it reads as it was written, in its order") {
    FakeResolver dns;
    dns.add("example.org", "MX 20 b.example.org");
    dns.add("example.org", "MX 10 a.example.org");
    dns.add("example.org", "MX 0 .");
    dns.add("example.org", "A 192.0.2.1");
    dns.add("example.org", "A 192.0.2.2");
    dns.add("example.org", "AAAA 2001:db8::1");
    dns.add("example.org", "TXT \"a b\" \"c\"");
    const auto ask = [&](RecordType type) { return dns.query("example.org", type, soon()); };
    CHECK(mail_exchangers(ask(RecordType::MX)) ==
          std::vector<MailExchanger>{{20, "b.example.org"}, {10, "a.example.org"}, {0, ""}});
    CHECK(addresses(ask(RecordType::A)) == Addresses{"192.0.2.1", "192.0.2.2"});
    CHECK(addresses(ask(RecordType::AAAA)) == Addresses{"2001:db8::1"});
    CHECK(texts(ask(RecordType::TXT)) == std::vector<std::string>{"a bc"});
    CHECK(!ask(RecordType::A).secure);
}

TEST_CASE("FakeResolver: what is malformed is refused, by its name, and nothing is kept of it") {
    FakeResolver dns;
    for (const std::string record : {"",
                                     "A",
                                     "A 1.2.3",
                                     "A 1.2.3.4.5",
                                     "A ::1",
                                     "A 1.2.3.4 x",
                                     "AAAA 1.2.3.4",
                                     "AAAA :::",
                                     "MX",
                                     "MX 10",
                                     "MX mx.a",
                                     "MX -1 mx.a",
                                     "MX 65536 mx.a",
                                     "MX ten mx.a",
                                     "MX 10 mx.a b",
                                     "MX 10 a..b",
                                     "MX 10 .a",
                                     "TXT",
                                     "TXT \"a",
                                     "TXT \"a\\",
                                     "TXT \"\\25\"",
                                     "TXT \"\\256\"",
                                     "TXT a\"b",
                                     "CNAME",
                                     "CNAME a b",
                                     "CNAME ..",
                                     "TLSA 3 1 1",
                                     "TLSA 3 1 1 0",
                                     "TLSA 3 1 1 0g",
                                     "TLSA 3 1 256 00",
                                     "TLSA 3 1",
                                     "SRV 0 0 1 a",
                                     "NS a",
                                     "hello"}) {
        CAPTURE(record);
        CHECK_THROWS_WITH_AS(dns.add("example.org", record), doctest::Contains(record.c_str()), std::invalid_argument);
    }
    const std::string long_text = "TXT \"" + std::string(256, 'x') + "\"", label(63, 'x');
    CHECK_THROWS_AS(dns.add("example.org", long_text), std::invalid_argument);
    for (const auto& name : Addresses{"", ".", "a..b", ".a", "a b", "a\\b", "x" + label,
                                      label + '.' + label + '.' + label + '.' + label.substr(1)}) {
        CAPTURE(name);
        CHECK_THROWS_AS(dns.add(name, "A 1.2.3.4"), std::invalid_argument);
        CHECK_THROWS_AS(dns.fail(name), std::invalid_argument);
        CHECK(dns.query(name, RecordType::A, soon()).status == Status::no_domain);
    }
    dns.add(label + '.' + label + '.' + label + '.' + label.substr(2), "A 1.2.3.4");
    CHECK(dns.query("example.org", RecordType::A, soon()).status == Status::no_domain);
}

TEST_CASE("FakeResolver: no such name, no such type, and the names between") {
    FakeResolver dns;
    dns.add("a.b.example.org", "A 192.0.2.1");
    CHECK(dns.query("nowhere.org", RecordType::A, soon()).status == Status::no_domain);
    CHECK(dns.query("x.a.b.example.org", RecordType::A, soon()).status == Status::no_domain);
    CHECK(dns.query("ple.org", RecordType::A, soon()).status == Status::no_domain);
    const auto none = dns.query("a.b.example.org", RecordType::MX, soon());
    CHECK(none.status == Status::no_data);
    CHECK(none.error.find("MX") != std::string::npos);
    CHECK(!none.temporary());
    CHECK(dns.query("example.org", RecordType::A, soon()).status == Status::no_data);
    dns.remove("a.b.example.org");
    CHECK(dns.query("example.org", RecordType::A, soon()).status == Status::no_domain);
}

TEST_CASE("FakeResolver: names have no case, and a dot behind them or not") {
    FakeResolver dns;
    dns.add("Example.ORG.", "A 192.0.2.1");
    for (const char* name : {"example.org", "EXAMPLE.org", "example.org."}) {
        CAPTURE(name);
        CHECK(dns.query(name, RecordType::A, soon()).found());
        CHECK(dns.asked("exAmple.org") > 0);
    }
    dns.add("\xc3\xa4.org", "A 192.0.2.1");
    CHECK(dns.query("\xc3\xa4.ORG", RecordType::A, soon()).found());
    CHECK(dns.query("xn--4ca.org", RecordType::A, soon()).status == Status::no_domain);
}

TEST_CASE("FakeResolver: a CNAME is itself the answer to who asks for it") {
    FakeResolver dns;
    dns.add("www.example.org", "CNAME Host.example.org.");
    dns.add("host.example.org", "A 192.0.2.1");
    dns.secure("www.example.org");
    const auto alias = dns.query("www.example.org", RecordType::CNAME, soon());
    CHECK(alias.found());
    CHECK(alias.secure);
    CHECK(alias.data == std::vector<std::string>{std::string("\4Host\7example\3org\0", 18)});
    CHECK(alias.canonical == "");
    CHECK(dns.query("www.example.org", RecordType::A, soon()).canonical == "host.example.org");
    CHECK(dns.query("host.example.org", RecordType::A, soon()).canonical == "");
    CHECK(!dns.query("host.example.org", RecordType::CNAME, soon()).found());
}

TEST_CASE("FakeResolver: where CNAMEs lead to is the answer, and a circle is none") {
    FakeResolver dns;
    dns.add("www.example.org", "CNAME Host.example.org.");
    dns.add("host.example.org", "A 192.0.2.1");
    dns.add("gone.example.org", "CNAME nowhere.org");
    CHECK(only(dns, "www.example.org", RecordType::A) == "\xc0\x00\x02\x01"s);
    CHECK(dns.query("www.example.org", RecordType::MX, soon()).status == Status::no_data);
    CHECK(dns.query("gone.example.org", RecordType::A, soon()).status == Status::no_domain);
    dns.add("one.org", "CNAME two.org");
    dns.add("two.org", "CNAME one.org");
    const auto circle = dns.query("one.org", RecordType::A, soon());
    CHECK(circle.status == Status::failed);
    CHECK(circle.error.find("one.org") != std::string::npos);
    CHECK_THROWS_AS(dns.add("www.example.org", "A 192.0.2.1"), std::invalid_argument);
    CHECK_THROWS_AS(dns.add("www.example.org", "CNAME other.org"), std::invalid_argument);
    CHECK_THROWS_AS(dns.add("host.example.org", "CNAME other.org"), std::invalid_argument);
    dns.fail("host.example.org");
    CHECK(dns.query("www.example.org", RecordType::A, soon()).status == Status::failed);
    CHECK(dns.asked("www.example.org") == 3);
    CHECK(dns.asked("host.example.org") == 0);  // as it was asked
}

TEST_CASE("FakeResolver: failures, of all types or one, until they are healed") {
    FakeResolver dns;
    dns.add("example.org", "A 192.0.2.1");
    dns.add("example.org", "MX 10 mx.example.org");
    dns.fail("Example.org", RecordType::MX);
    auto failed = dns.query("example.org", RecordType::MX, soon());
    CHECK(failed.status == Status::failed);
    CHECK(failed.temporary());
    CHECK(failed.data.empty());
    CHECK(!failed.error.empty());
    CHECK(dns.query("example.org", RecordType::A, soon()).found());
    dns.fail("example.org");
    CHECK(dns.query("example.org", RecordType::A, soon()).status == Status::failed);
    dns.heal("example.org");
    CHECK(dns.query("example.org", RecordType::A, soon()).found());
    CHECK(dns.query("example.org", RecordType::MX, soon()).found());
    dns.fail("unknown.org");
    CHECK(dns.query("unknown.org", RecordType::A, soon()).status == Status::failed);
    CHECK(dns.query("other.org", RecordType::A, soon()).status == Status::no_domain);
}

TEST_CASE("FakeResolver: a stalled answer is a time-out when the wait is over, not before and not much later") {
    FakeResolver dns;
    dns.add("example.org", "A 192.0.2.1");
    dns.stall("example.org", RecordType::A);
    const auto began = Clock::now();
    CHECK(dns.query("example.org", RecordType::A, began + 150ms).status == Status::timeout);
    CHECK(Clock::now() - began >= 150ms);
    CHECK(Clock::now() - began < patience);
    CHECK(dns.query("example.org", RecordType::A, Clock::now() - 1s).status == Status::timeout);
    CHECK(dns.query("example.org", RecordType::MX, soon()).status == Status::no_data);
    // Called off by somebody else, with no end of its own.
    std::atomic<bool> off = false;
    Background caller([&] {
        while (dns.asked("example.org", RecordType::A) < 3) std::this_thread::yield();
        off = true;
    });
    CHECK(dns.query("example.org", RecordType::A, {Deadline::max(), [&] { return off.load(); }}).status ==
          Status::timeout);
    caller.join();
}

TEST_CASE("FakeResolver: who is stalled or delayed is answered at once when the name is healed") {
    FakeResolver dns;
    dns.add("example.org", "A 192.0.2.1");
    dns.add("example.net", "A 192.0.2.2");
    dns.stall("example.org");
    dns.delay("example.net", std::chrono::hours(1));
    const auto began = Clock::now();
    std::atomic<int> found = 0;
    {
        std::vector<Background> all;
        for (const char* name : {"example.org", "example.net"})
            all.emplace_back([&, name] { found += dns.query(name, RecordType::A, Deadline::max()).found(); });
        while (dns.asked() < 2) std::this_thread::yield();
        CHECK(found == 0);
        dns.heal("example.org");
        dns.heal("example.net");
        for (auto& b : all) b.join();
    }
    CHECK(found == 2);
    CHECK(Clock::now() - began < patience);
}

TEST_CASE("FakeResolver: who is healed just when he begins to wait does not wait") {
    FakeResolver dns;
    dns.add("example.org", "A 192.0.2.1");
    const auto began = Clock::now();
    for (int i = 0; i < 100; ++i) {
        dns.stall("example.org");
        const Wait wait(Deadline::max(), [&] {
            dns.heal("example.org");
            return false;
        });
        CHECK(dns.query("example.org", RecordType::A, wait).found());
    }
    CHECK(Clock::now() - began < patience);  // a quarter of a second each, if the healing went by unseen
}

TEST_CASE("FakeResolver: a delayed answer comes when it is due, or the wait is over first") {
    FakeResolver dns;
    dns.add("example.org", "A 192.0.2.1");
    dns.delay("example.org", 100ms);
    auto began = Clock::now();
    CHECK(dns.query("example.org", RecordType::A, soon()).found());
    CHECK(Clock::now() - began >= 100ms);
    dns.delay("example.org", std::chrono::hours(1));
    began = Clock::now();
    CHECK(dns.query("example.org", RecordType::A, Clock::now() + 50ms).status == Status::timeout);
    CHECK(Clock::now() - began < patience);
}

TEST_CASE("FakeResolver: an answer is secure when all that led to it is") {
    FakeResolver dns;
    dns.add("example.org", "A 192.0.2.1");
    dns.add("www.example.org", "CNAME example.org");
    const auto secure = [&](const char* name, RecordType type = RecordType::A) {
        return dns.query(name, type, soon()).secure;
    };
    CHECK(!secure("example.org"));
    dns.secure("example.org");
    CHECK(secure("example.org"));
    CHECK(secure("example.org", RecordType::TLSA));  // that there is none is signed too
    CHECK(!secure("www.example.org"));
    dns.secure("www.example.org");
    CHECK(secure("www.example.org"));
    dns.heal("example.org");
    CHECK(!secure("www.example.org"));
    CHECK(!secure("nowhere.org"));
}

TEST_CASE("FakeResolver: what was asked is counted, from any number of threads") {
    FakeResolver dns;
    dns.add("example.org", "A 192.0.2.1");
    dns.add("example.org", "MX 10 mx.example.org");
    std::atomic<int> found = 0;
    {
        std::vector<Background> all;
        for (int i = 0; i < 8; ++i)
            all.emplace_back([&] {
                for (int n = 0; n < 50; ++n) {
                    found += dns.query("example.org", RecordType::A, soon()).found();
                    found += dns.query("EXAMPLE.org", RecordType::MX, soon()).found();
                    dns.add("more.org", "A 192.0.2.1");
                    dns.query("nowhere.org", RecordType::A, soon());
                }
            });
        for (auto& b : all) b.join();
    }
    CHECK(found == 800);
    CHECK(dns.asked() == 1200);
    CHECK(dns.asked("example.org") == 800);
    CHECK(dns.asked("example.org", RecordType::MX) == 400);
    CHECK(dns.asked("example.org", RecordType::TXT) == 0);
    CHECK(dns.asked("more.org") == 0);
    CHECK(dns.questions().size() == 1200);
    FakeResolver fresh;
    fresh.query("B.org", RecordType::TXT, soon());
    CHECK(fresh.questions() == std::vector<FakeResolver::Question>{{"B.org", RecordType::TXT}});
    Resolver& as_one = fresh;
    CHECK(as_one.query("b.org", RecordType::TXT, soon()).status == Status::no_domain);
}
