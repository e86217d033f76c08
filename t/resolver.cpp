// resolver -- the records of the DNS taken apart, whatever is in them.
#include <doctest/doctest.h>

#include <Net/SMTP/Server/Resolver.hpp>
#include <chrono>

#include "dns_server.hpp"

using namespace test;
using Net::SMTP::Records;
using test::dns::number;
using test::dns::wire;

namespace {

using Texts = std::vector<std::string>;
using Hosts = std::vector<MailExchanger>;

Records found(Texts rdata) { return {Records::Status::found, std::move(rdata)}; }

Hosts hosts(const std::string& rdata) { return mail_exchangers(found({rdata})); }

std::string labels(std::size_t count, std::size_t length) {
    std::string out;
    for (std::size_t i = 0; i < count; ++i) out += (i > 0 ? "." : "") + std::string(length, 'a');
    return out;
}

}  // namespace

TEST_CASE("a type of record has the name of RFC 1035 and its successors") {
    CHECK(name(RecordType::A) == "A");
    CHECK(name(RecordType::MX) == "MX");
    CHECK(name(RecordType::TXT) == "TXT");
    CHECK(name(RecordType::AAAA) == "AAAA");
    CHECK(name(RecordType::TLSA) == "TLSA");
    CHECK(name(RecordType(6)) == "");
}

TEST_CASE("an answer is found, final or worth another try") {
    const auto is = [](Records::Status status) { return Records{status}; };
    CHECK(is(Records::Status::found).found());
    for (const auto status :
         {Records::Status::no_data, Records::Status::no_domain, Records::Status::failed, Records::Status::timeout})
        CHECK_FALSE(is(status).found());
    CHECK(is(Records::Status::failed).temporary());
    CHECK(is(Records::Status::timeout).temporary());
    for (const auto status : {Records::Status::found, Records::Status::no_data, Records::Status::no_domain})
        CHECK_FALSE(is(status).temporary());
    CHECK(Records().status == Records::Status::failed);
    CHECK_FALSE(Records().secure);
}

TEST_CASE("mail exchangers come in the order of the answer") {
    const auto all = mail_exchangers(found({number(20) + wire("b.example.net"), number(10) + wire("a.example.net"),
                                            number(65535) + wire("z"), number(256) + wire("256.example.net")}));
    CHECK(all == Hosts{{20, "b.example.net"}, {10, "a.example.net"}, {65535, "z"}, {256, "256.example.net"}});
}

TEST_CASE("the root as a mail exchanger is kept: it says that there is no mail") {
    CHECK(hosts(number(0) + wire("")) == Hosts{{0, ""}});
}

TEST_CASE("a mail exchanger's name is as long as a name may be") {
    CHECK(hosts(number(1) + wire(labels(1, 63))) == Hosts{{1, labels(1, 63)}});
    const auto longest = labels(3, 63) + '.' + labels(1, 61);
    REQUIRE(longest.size() == 253);
    CHECK(hosts(number(1) + wire(longest)) == Hosts{{1, longest}});
    CHECK(hosts(number(1) + wire(longest + 'a')).empty());
    CHECK(hosts(number(1) + wire(labels(127, 1))) == Hosts{{1, labels(127, 1)}});
    CHECK(hosts(number(1) + wire(labels(128, 1))).empty());
}

TEST_CASE("a malformed mail exchanger is left out, the others stay") {
    const auto good = number(10) + wire("mx.example.net");
    for (const auto& bad : Texts{
             "", std::string(1, '\0'),
             number(10),                       // no name
             good.substr(0, good.size() - 1),  // no end
             good + 'x',                       // something behind the end
             good + '\0',
             number(10) + "\3mx",                                // a label longer than what is left
             number(10) + "\xC0\x0C",                            // compressed: there is nothing it could point to
             number(10) + '\x40' + std::string(64, 'a') + '\0',  // a label of 64
         }) {
        CAPTURE(escaped(bad));
        CHECK(hosts(bad).empty());
        CHECK(mail_exchangers(found({good, bad, good})) == Hosts{{10, "mx.example.net"}, {10, "mx.example.net"}});
    }
}

TEST_CASE("what can be no host's name is no mail exchanger") {
    for (int c = 0; c < 256; ++c) {
        CAPTURE(c);
        const auto rdata = number(10) + '\2' + 'a' + char(c) + '\3' + "net" + '\0';
        const bool fits = c > 32 && c < 127 && c != '.';
        CHECK(hosts(rdata).size() == (fits ? 1 : 0));
    }
    CHECK(hosts(number(10) + "\x9" + "10.0.0.1\n" + '\0').empty());
}

TEST_CASE("addresses are text as RFC 5952 has it, and the octets of nothing else") {
    CHECK(addresses(found({{"\xC0\0\2\1", 4}, dns::address("2001:db8::1"), dns::address("::")})) ==
          Texts{"192.0.2.1", "2001:db8::1", "::"});
    for (const std::size_t size : {0, 1, 3, 5, 8, 15, 17, 65535}) {
        CAPTURE(size);
        CHECK(addresses(found({std::string(size, '\1'), {"\x7F\0\0\1", 4}})) == Texts{"127.0.0.1"});
    }
}

TEST_CASE("the strings of a text are joined, with nothing between") {
    CHECK(texts(found({std::string("\6v=spf1\4 -al\1l", 14)})) == Texts{"v=spf1 -all"});
    CHECK(texts(found({std::string(1, '\0')})) == Texts{""});
    CHECK(texts(found({std::string("\0\1a\0", 4)})) == Texts{"a"});
    const auto full = '\xFF' + std::string(255, 'x');
    CHECK(texts(found({full + full, "\1b"})) == Texts{std::string(510, 'x'), "b"});
    CHECK(texts(found({std::string("\4a\0\r\n", 5)})) == Texts{std::string("a\0\r\n", 4)});
}

TEST_CASE("a malformed text is left out, the others stay") {
    for (const auto& bad : Texts{"", "\1", "\2a", "\1a\1", '\xFF' + std::string(254, 'x')}) {
        CAPTURE(escaped(bad));
        CHECK(texts(found({"\1b", bad, "\1c"})) == Texts{"b", "c"});
    }
}

TEST_CASE("where nothing was found there is nothing to take apart") {
    const Records none{Records::Status::no_domain};
    CHECK(mail_exchangers(none).empty());
    CHECK(addresses(none).empty());
    CHECK(texts(none).empty());
}

TEST_CASE("a wait is over at its end, or when it is called off") {
    const auto now = Clock::now();
    CHECK(Wait(now).over());
    CHECK_FALSE(Wait(Deadline::max()).over());
    CHECK(Wait(Deadline::max()).look() == Deadline::max());
    bool off = false;
    const Wait wait(Deadline::max(), [&] { return off; });
    CHECK_FALSE(wait.over());
    CHECK(wait.look() <= Clock::now() + 1s);
    CHECK(wait.within(now).over());
    CHECK(wait.within(now).look() == now);
    off = true;
    CHECK(wait.over());
    CHECK(wait.within(now + 1h).over());
    CHECK(Wait(now + 1h).within(now + 2h).look() == now + 1h);
}
