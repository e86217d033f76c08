// SenderVerify -- refuses senders whom no answer could reach.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "../Event.hpp"
#include "../Plugin.hpp"
#include "ResolverCache.hpp"

namespace Net::SMTP {

// A plugin that asks the DNS at Event::Mail whether the sender's domain can receive mail: has MX records, or else an
// address (RFC 5321 5.1). 550 5.1.8 to one that does not exist or has neither; 550 5.7.27 to one that says it takes
// none (RFC 7505); 451 4.4.3 when that can't be found out in time. Afterwards it tells SenderVerify::Result. Not asked
// about: the null sender, address literals, who has authenticated, who is exempt, and what was refused already.
class SenderVerify : public Plugin {
public:
    struct Options {
        std::shared_ptr<Resolver> resolver{};
        Networks exempt{};                          // clients
        std::chrono::milliseconds timeout{10'000};  // for all questions about one sender
        ResolverCache::Limits cache{};
    };
    enum class Verdict {
        fine,        // it has a mail server
        null_mx,     // it takes no mail
        no_domain,   // it does not exist
        no_records,  // it exists, but has neither MX nor address
        unknown,     // nobody said in time
    };
    struct Result;

    // std::invalid_argument without a resolver.
    explicit SenderVerify(Options options);

private:
    void verify(Event::Mail&);
    Verdict ask(const std::string& domain, const Wait&, std::string& error);
    Verdict ask_addresses(const std::string& domain, const Wait&, std::string& error);

    const Options options_;
    ResolverCache cache_;
};

// The sender's domain was looked up. Whoever changes `reply`, the refusal or MAIL's own answer, says something else.
struct SenderVerify::Result : Event::Asking {
    Result(Server::Client& c, const Sender& s, Verdict v, const std::string& w, Reply& r)
        : Asking(c, r), sender(s), verdict(v), error(w) {}
    const Sender& sender;
    Verdict verdict;
    const std::string& error;  // of the look-up, for a log; "" when it is fine
};

}  // namespace Net::SMTP
