// Transcript -- writes down what is said in a server's sessions and with next hops, line by line, without the secrets.
#pragma once

#include <cstdio>
#include <functional>
#include <iosfwd>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "../Pipeline.hpp"

namespace Net::SMTP {

// Each line holds the time, the session's id and who speaks: C the client, S the server, -- neither.
//
//     2026-01-31T12:34:56.789Z 5T2WRC0M1Y3QA -- connect from 192.0.2.1:4711 to 192.0.2.2:25
//     2026-01-31T12:34:56.790Z 5T2WRC0M1Y3QA S: 220 mx.example.org ESMTP
//     2026-01-31T12:34:56.812Z 5T2WRC0M1Y3QA C: AUTH PLAIN ***
//
// It shows commands and replies as they were after everybody has had them, so it is no plugin but a listener: those
// come behind the plugins. Let it listen when all the others do, since a later one may still change them. What a
// plugin keeps from the listeners is not in it, nor are AUTH's challenges and responses, command lines that are too
// long, and texts, but for their sizes.
//
// What follows AUTH and its mechanism is "***", however it is written, and the mechanism too if it is not a common one,
// since it may be misplaced. So is what comes after AUTH and is no command.
class Transcript {
public:
    // Gets a line without its end. Called by any session's thread, by several at once. What it throws is ignored: no
    // mail is refused for a log's sake.
    using Write = std::function<void(std::string_view line)>;
    explicit Transcript(Write write);
    // Whole lines, each flushed. They stay the program's, and must be there as long as the server's sessions and the
    // relays.
    explicit Transcript(std::FILE* file);
    explicit Transcript(std::ostream& stream);  // which nobody else writes to

    // Listens to it, as long as it lives or until these are given to Pipeline::off(); this object may go before. Once
    // for each pipeline.
    std::vector<Pipeline::Listener> listen(Pipeline& pipeline) const;

    // For Relay::Options::transcript: writes what is said to next hops, and by them, behind the id of the client's
    // session that the mail came by ("-": none) and the host; C is the relay here, S the host.
    //
    //     2026-01-31T12:34:57.012Z 5T2WRC0M1Y3QA mx.example.net[192.0.2.9]:25 C: EHLO mx.example.org
    //     2026-01-31T12:34:57.034Z 5T2WRC0M1Y3QA mx.example.net[192.0.2.9]:25 S: 250-mx.example.net
    //
    // Secrets are not in what the relay tells (see Overhear in Relay/Session.hpp). This object may go before it.
    std::function<void(std::string_view session, std::string_view host, std::string_view line)> next_hops() const;

    // A command line as it may be shown: secrets hidden, control characters escaped, 1000 octets at most.
    static std::string shown(std::string_view command);

private:
    struct State;
    std::shared_ptr<State> state_;
};

}  // namespace Net::SMTP
