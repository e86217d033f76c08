// session -- whatever a client says, in whatever pieces: pipelined commands, AUTH, chunks, STARTTLS, PROXY headers.
#include "session.hpp"

#include "../../Server/Sasl.hpp"

using namespace Net::SMTP;

void fuzz::run(Input input) {
    static const auto users = std::make_shared<Sasl>(
        [](auto& user, auto& password, auto&) { return user == "user" && password == "pencil"; });
    const auto how = input.octet();
    Talk talk{options(input.octet()), (how & 1) != 0};
    const bool early = how & 2, auth = how & 4, tls = how & 8;
    const auto chance = input.chance();
    const auto says = input.rest();
    if (!auth && !tls) return both_ways(says, talk, chance, early);
    // Whether something was there before it was asked for depends on the pieces.
    if (auth) talk.options.auth = users;
    if (auth) talk.options.clear_auth = ClearAuth::everywhere;
    if (tls) talk.options.tls = std::make_shared<PlainTLS>();
    talk.options.require_tls = (how & 24) == 24;
    const auto outcome = play(says, talk, {chance, early});
    SecondReading(says, outcome, talk);
    require(outcome.user.empty() || outcome.user == "user", "nobody is let in but who may", outcome.user);
}
