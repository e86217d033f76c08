// FakeResolver -- a DNS of the test's own: answers from records that the test adds, fails and stalls when told to.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../Resolver.hpp"

namespace Net::SMTP::Test {

// Names are compared without case, with or without the dot behind them, and as they are written: a U-label is not its
// A-label. What is not known is no_domain, or no_data where the name or one below it has records. Any thread may call
// any member, but the destructor while another one asks.
//
//     Test::FakeResolver dns;
//     dns.add("example.org", "MX 10 mx1.example.org");
//     dns.add("mx1.example.org", "A 127.0.0.1");
//     dns.stall("example.net");
class FakeResolver final : public Resolver {
public:
    using milliseconds = std::chrono::milliseconds;
    // Nothing: all types.
    using Type = std::optional<RecordType>;

    FakeResolver();
    ~FakeResolver() override;
    FakeResolver(const FakeResolver&) = delete;
    FakeResolver& operator=(const FakeResolver&) = delete;

    // Adds a record, written as in a master file (RFC 1035 5.1):
    //
    //     A 192.0.2.1         AAAA 2001:db8::1      MX 10 mx1.example.org     MX 0 .     CNAME other.example.org
    //     TXT "v=spf1 " "-all"  (\" \\ and \DDD in it; a string without blanks needs no quotes)
    //     TLSA 3 1 1 0123...  (hexadecimal, blanks allowed)
    //
    // std::invalid_argument names a record or a name that is malformed, and refuses a CNAME beside other records
    // (RFC 1034 3.6.2). The answer holds the records in the order they were added; Records::canonical is in small
    // letters.
    void add(const std::string& name, std::string_view record);
    // Forgets the name's records; what is said below stays.
    void remove(const std::string& name);

    // Answers about the name are `failed`, as by SERVFAIL; or there are none, and it is `timeout` when the wait is
    // over, not before; or they come so much later. Of a name that is asked for by way of a CNAME it holds as well.
    void fail(const std::string& name, Type type = {});
    void stall(const std::string& name, Type type = {});
    void delay(const std::string& name, milliseconds time, Type type = {});
    // Answers about the name are as if validated by DNSSEC; one by way of a CNAME if both names' are.
    void secure(const std::string& name);
    // Takes back all of that for the name. Who is being stalled or delayed is answered now.
    void heal(const std::string& name);

    Records query(const std::string& name, RecordType type, const Wait& wait) override;

    struct Question {
        std::string name;  // as it was asked
        RecordType type;
        bool operator==(const Question&) const = default;
    };
    // What was asked so far, in its order; how often; how often about a name, and for a type of it.
    std::vector<Question> questions() const;
    std::size_t asked() const;
    std::size_t asked(const std::string& name, Type type = {}) const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace Net::SMTP::Test
