// Resolver -- asks the DNS, and waits no longer than it may.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "Wait.hpp"

namespace Net::SMTP {

enum class RecordType : std::uint16_t { A = 1, CNAME = 5, MX = 15, TXT = 16, AAAA = 28, TLSA = 52 };
// "A", "MX", ...
std::string_view name(RecordType);

// What the DNS said to one question.
struct Records {
    enum class Status {
        found,      // `data` holds one record at least
        no_data,    // the name exists, but has no record of the type
        no_domain,  // the name does not exist (NXDOMAIN)
        failed,     // SERVFAIL, REFUSED, a bogus signature, nobody to ask: `error` says what
        timeout,    // no answer while the wait lasted
    };
    Status status = Status::failed;
    std::vector<std::string> data{};  // each record's RDATA as octets of the wire (RFC 1035 3.2.1), names uncompressed
    bool secure = false;              // the answer, also a negative one, was validated by DNSSEC
    std::string error{};              // for a log; empty when found
    std::string canonical{};          // whose records these are, where CNAMEs led there; without the dot behind it

    bool found() const { return status == Status::found; }
    // A later try may have another answer.
    bool temporary() const { return status == Status::failed || status == Status::timeout; }
};

// Where a program's questions to the DNS go. Implement it to bring an own one; UnboundResolver is the real one, and
// Test::FakeResolver one for tests. Any number of threads may ask at once.
class Resolver {
public:
    virtual ~Resolver() = default;
    // The records of that type at `name`, where CNAMEs lead to included. `name` is a domain without the dot behind it,
    // in A-labels or U-labels; what can be no domain name is no_domain. Returns when `wait` is over, at the latest a
    // second later. Throws nothing but std::bad_alloc: what goes wrong is in the status.
    virtual Records query(const std::string& name, RecordType type, const Wait& wait) = 0;
    // Whether it validates by DNSSEC at all. Where it does not no answer is secure, and DANE (RFC 7672) can't be had.
    virtual bool validates() const { return true; }

protected:
    Resolver() = default;
    Resolver(const Resolver&) = default;
    Resolver& operator=(const Resolver&) = default;
};

struct MailExchanger {
    std::uint16_t preference = 0;
    std::string host;  // without the dot behind it; "" is the root: "no mail here" (RFC 7505)
    bool operator==(const MailExchanger&) const = default;
};

// What a certificate is to be (RFC 6698 2.1).
struct TLSA {
    std::uint8_t usage = 0, selector = 0, matching = 0;
    std::string data{};  // octets; not "" where it comes from records
    auto operator<=>(const TLSA&) const = default;
};

// The records taken apart; those that are malformed are left out, so nothing may remain of what was found.
std::vector<MailExchanger> mail_exchangers(const Records&);  // of type MX, in the order of the answer
std::vector<std::string> addresses(const Records&);          // of type A or AAAA, as text: "192.0.2.1", "2001:db8::1"
std::vector<std::string> texts(const Records&);              // of type TXT, the strings of each joined
std::vector<TLSA> tlsa(const Records&);                      // of type TLSA, in the order of the answer

}  // namespace Net::SMTP
