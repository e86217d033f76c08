// secure_hop -- next hops that speak TLS as they are told, and a relay that is to believe them or not.
#pragma once

#include <doctest/doctest.h>

#include <Net/SMTP/Server/Test/FakeResolver.hpp>
#include <Net/SMTP/Server/Test/MailServer.hpp>
#include <Net/SMTP/Server/Test/ScriptedServer.hpp>

#include "certificates.hpp"
#include "next_hop.hpp"

namespace test {

using Level = ClientTLS::Level;
using Test::Act;
using Test::Conversation;
using Test::ScriptedServer;

inline const std::string host_name = "mx.hop.test";
inline const Wanted good{.names = {host_name, "IP:127.0.0.1"}};

// The authority that the tests' relays believe, and one that nobody knows.
inline Certificates& authority() {
    static Certificates one;
    return one;
}
inline Certificates& stranger() {
    static Certificates one("Stranger");
    return one;
}

inline std::shared_ptr<ServerTLS> tls_of(const KeyPair& files) {
    return std::make_shared<ServerTLS>(files.certificate, files.key);
}
inline std::shared_ptr<ServerTLS> tls_of(const Wanted& wanted) { return tls_of(authority().issue(wanted)); }
// The same for all: to make a key takes time.
inline std::shared_ptr<ServerTLS> good_tls() {
    static const auto one = tls_of(good);
    return one;
}

inline ClientTLS asking(Level level, bool implicit = false) {
    return ClientTLS({.level = level, .implicit = implicit, .ca = authority().file(), .name = host_name});
}

inline ScriptedServer::Options offering(std::vector<std::string> keywords, const std::string& listen = "127.0.0.1:0") {
    ScriptedServer::Options o;
    o.listen = listen;
    o.keywords = std::move(keywords);
    return o;
}

inline Act starting(std::shared_ptr<TLSAcceptor> tls) {
    return Act(Reply{220, "2.0.0", "go ahead"}).then(Act::encrypt(std::move(tls)));
}

// Offers STARTTLS and does it; everything else is as the kit's server is.
class SecureHop : public ScriptedServer {
public:
    explicit SecureHop(std::shared_ptr<TLSAcceptor> tls = good_tls(),
                       const std::vector<std::string>& keywords = {"PIPELINING", "STARTTLS", "ENHANCEDSTATUSCODES"})
        : ScriptedServer(offering(keywords)) {
        on("STARTTLS", starting(std::move(tls)));
    }
};

inline Relay::Options through(const std::string& address, const ClientTLS& tls) {
    Relay::Options o;
    o.host = address;
    o.tls = tls;
    o.hostname = "relay.test";
    o.total = slower * 20s;
    const auto each = slower * 10s;
    o.patience = {each, each, each, each, each, each, each, each, 2s, slower * 5s, each};
    o.received = false;
    return o;
}

inline const Message short_text("Subject: x\r\n\r\nhello\r\n");

inline Relay::Result sent(const Relay::Options& o, const std::string& to = "c@d.test") {
    return Relay(Sender("a@b.test"), {Recipient(to)}, short_text, o).results().at(0);
}

// Whether anything of a mail was said in the clear.
inline bool exposed(const std::vector<Conversation>& all) {
    for (const auto& c : all)
        for (std::size_t i = 0; i < c.in_the_clear; ++i)
            if (!c.commands[i].starts_with("EHLO") && !c.commands[i].starts_with("HELO") &&
                !c.commands[i].starts_with("LHLO") && c.commands[i] != "STARTTLS" && c.commands[i] != "QUIT")
                return true;
    return false;
}
inline std::size_t whole_mails(const std::vector<Conversation>& all) {
    std::size_t n = 0;
    for (const auto& c : all)
        for (const auto& t : c.texts) n += t.complete;
    return n;
}

}  // namespace test
