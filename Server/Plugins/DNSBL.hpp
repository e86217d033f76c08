// DNSBL -- asks block lists of the DNS about who connects (RFC 5782).
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "../Event.hpp"
#include "../Plugin.hpp"
#include "ResolverCache.hpp"

namespace Net::SMTP {

// A plugin for a server that strangers bring mail to; not where users submit theirs, whose addresses are on such
// lists. At Event::Connect it asks each zone in turn about the client's IPv4 or IPv6 address; who is listed is greeted
// by 554 5.7.1, and the connection closes. Zones that fail, are late or lie refuse nobody. Afterwards it tells
// DNSBL::Result, whoever is listed or not. Who has no address, or was refused already, is not asked about.
class DNSBL : public Plugin {
public:
    struct Zone {
        std::string name{};             // "zen.example.org"
        int weight = 1;                 // of being listed; below 0 it is an allow list
        Networks codes{"127.0.0.0/8"};  // the answers by which one is listed, of 127.0.0.0/8
    };
    struct Options {
        std::shared_ptr<Resolver> resolver{};
        std::vector<Zone> zones{};
        int threshold = 1;  // the sum of weights from which one is refused, 1 at least
        // In it {address} is the client's, {zone} the zones by which he is listed, {reason} their text, see below.
        std::string text = "{address} is listed by {zone}";
        bool reasons = false;  // asks zones for their text (TXT) about who is listed; ASCII, cut at 200 octets
        Networks exempt{};     // is not asked about
        std::chrono::milliseconds timeout{5000};  // for all zones together; each has its share of what is left
        ResolverCache::Limits cache{};
    };
    // What one zone said.
    struct Answer {
        std::string zone{};
        std::string question{};            // "2.0.0.127.zen.example.org"
        std::vector<std::string> codes{};  // "127.0.0.4"
        std::string reason{};              // see Options::reasons
        std::string error{};               // why the codes count for nothing, or there are none; else ""
        bool listed = false;
    };
    struct Result;

    // std::invalid_argument without a resolver, for a zone that can be no name or is too long, and a threshold below 1.
    explicit DNSBL(Options options);

private:
    using Answers = std::vector<Answer>;
    void greet(Event::Connect&);
    int ask_all(const std::string& address, const Wait&, Answers&);
    Answer ask(const Zone&, const std::string& address, const Wait&);
    void read(const Zone&, const Records&, Answer&) const;
    bool lists_everybody(const Zone&, const std::string& address, const Wait&, std::string& error);
    std::string refusal(const std::string& host, const Answers&) const;

    const Options options_;
    const bool allows_;  // a zone is an allow list
    ResolverCache cache_;
};

// The zones have been asked. `reply` is the refusal or the greeting, and who changes it says something else: `e.reply =
// e.greeting` lets somebody in.
struct DNSBL::Result : Event::Asking {
    Result(Server::Client& c, const std::vector<Answer>& a, int w, bool l, const Reply& g, Reply& r)
        : Asking(c, r), answers(a), weight(w), listed(l), greeting(g) {}
    const std::vector<Answer>& answers;  // of the zones that were asked: none after those that were enough
    int weight;                          // the sum
    bool listed;                         // the threshold is reached
    const Reply& greeting;
};

}  // namespace Net::SMTP
