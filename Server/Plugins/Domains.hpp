// Domains -- for whom a server takes mail: its own domains, and from whom it takes any.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "../Event.hpp"
#include "../Plugin.hpp"

namespace Net::SMTP {

// A plugin that makes a server no open relay. At Event::Rcpt it lets pass, in this order: <postmaster> (RFC 5321
// 4.5.1); everybody, if the client is in a trusted network or has authenticated; whose domain is one of ours, unless
// his local part names another host to go on to ("a%b", "a!b", "a@b" in quotes). The rest hears 550 5.7.1. Without
// domains, users and trusted networks that is all but <postmaster>. What another one has refused stays refused.
//
//     server.pipeline().add_first("domains", std::make_shared<Domains>(Domains::Options{.domains = {"example.org"}}));
//
// Who changes recipients belongs in front of it; who eats Event::Rcpt there must judge for it.
class Domains : public Plugin {
public:
    struct Options {
        // "example.org"; ".example.org" is what is below it, without itself. Compared without case, as it is written:
        // a U-label is not its A-label. A literal "[192.0.2.1]" is ours only if it is here.
        std::vector<std::string> domains{};
        Networks trusted{};      // may relay
        bool users = true;       // who has authenticated may relay
        bool double_at = false;  // <a@b@c> is taken as <"a@b"@c>, so c decides; otherwise 501 5.1.3
    };

    // std::invalid_argument names what can be no domain.
    explicit Domains(Options options);

    // Whether the domain is one of ours.
    bool ours(std::string_view domain) const;

private:
    void judge(Event::Rcpt&) const;
    bool may_relay(const Server::Client&) const;
    bool routed(const Address&) const;

    const Options options_;
};

}  // namespace Net::SMTP
