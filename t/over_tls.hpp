// over_tls -- a certificate for mx.test, and dialogues that go on encrypted.
#pragma once

#include <Net/SMTP/Relay/ClientTLS.hpp>

#include "certificates.hpp"
#include "dialogue.hpp"

namespace test {

// What a test server shows. One for all tests: they look at sessions, not at certificates.
struct Ours {
    Certificates authority;
    KeyPair pair = authority.issue({.names = {"mx.test"}});
};
inline Ours& ours() {
    static Ours one;
    return one;
}
inline std::shared_ptr<ServerTLS> acceptor() {
    return std::make_shared<ServerTLS>(ours().pair.certificate, ours().pair.key);
}

inline Options with_tls(Options o = brief()) {
    o.tls = acceptor();
    return o;
}

// The client's handshake, with whomever.
inline void encrypt(Wire& wire, const std::string& name = "mx.test") {
    const ClientTLS::Target target{.names = {name}, .level = ClientTLS::Level::must};
    wire.encrypt(ClientTLS({.level = target.level}).connect(wire.fd(), target));
}

inline const char* const starttls = R"(
    S: 220
    C: EHLO me
    S: 250
    C: STARTTLS
    S: 220 2.0.0
)";

// A session that begins in the clear, and goes on with the script when TLS is there.
inline Played dialogue_over_tls(std::string_view script, Setup setup = {}) {
    if (!setup.options.tls) setup.options = with_tls(setup.options);
    Talk talk(std::move(setup));
    talk.play(starttls);
    encrypt(talk.wire);
    talk.play(script);
    Played played;
    played.mails = talk.end();
    played.heard = talk.wire.heard();
    played.troubles = talk.troubles();
    return played;
}

}  // namespace test
