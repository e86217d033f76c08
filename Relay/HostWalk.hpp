// HostWalk -- the hosts for one domain, or of a smart host, in the order to try; for our own .cpp files only, it is not
// installed.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "../Server/Resolver.hpp"
#include "Session.hpp"

namespace Net::SMTP {

// Looks up as little as it can: the addresses of a host when it is its turn. One thread.
class HostWalk {
public:
    struct Settings {
        Resolver* resolver = nullptr;  // outlives this
        std::uint16_t port = 25;       // of hosts found by MX and of address literals
        std::string hostname{};        // ours: what is not better than we are would send the mail back to us
        Endpoint ourselves{};          // where the message came in
        std::chrono::seconds lookup{20};
        Wait wait{Deadline::max()};
        ClientTLS::Level level = ClientTLS::Level::none;  // `dane` is decided for each host
        Witness witness{};                                // of each host
    };
    // By the MX records of `domain` (RFC 5321 5.1), or straight to the address that the literal names.
    static HostWalk by_mx(const std::string& domain, Settings settings);
    // A smart host; a name's addresses are the resolver's or, without one, the system's.
    static HostWalk to(const Upstream& host, Settings settings);

    // The next to try; nullopt: no more.
    std::optional<Upstream> next();
    // Why there was none at all, or no more.
    const Reply& failure() const { return failure_; }
    // For a walk that goes on later.
    void extend(Wait wait) { settings_.wait = std::move(wait); }

private:
    explicit HostWalk(Settings settings) : settings_(std::move(settings)) {}
    // As long as a look-up may take from now on.
    Wait one_lookup() const;
    // What the resolver says; whatever it throws is a DNS that does not work.
    Records query(const std::string& name, RecordType type, const Wait&) const;
    void find_exchangers();
    void find_addresses(const std::string& host);
    // Below which names the TLSA records of a host may be; nullopt: nobody can tell now.
    std::optional<std::vector<std::string>> tlsa_bases(const std::string& host, const std::string& canonical,
                                                       bool secure);
    bool find_records(const std::string& host, const std::string& canonical, bool secure, Upstream& like);
    void defer(const Reply&);

    Settings settings_;
    std::string domain_;              // to be looked up
    bool asked_ = true;               // the MX records were
    std::deque<std::string> hosts_;   // names whose addresses are not known yet
    std::deque<Upstream> upstreams_;  // to be tried
    Upstream like_{};                 // port and protocol of what hosts_ become
    bool smart_ = false, unsure_ = false, found_ = false;
    bool secure_ = false;  // the MX records were, or that there are none
    int given_ = 0;        // how many there were to try
    Reply failure_{451, "4.4.4", "No route"};
};

}  // namespace Net::SMTP
