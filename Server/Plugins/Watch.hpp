// Watch -- gathers from the events what became of sessions and mails, and tells it when each of them is over.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "../Pipeline.hpp"
#include "../Reply.hpp"

namespace Net::SMTP {

// What SessionLog writes and Counters counts, for logs and statistics of another form:
//
//     Watch watch({.mail = [](const Watch::Session& s, const Watch::Mail& m) { ... }});
//     watch.listen(server.pipeline());
//
// It listens, so that it hears what plugins have made of an event; what they keep from the listeners it can't tell of.
// Let it listen when all the others do. The functions are called on the sessions' threads, several at once; what they
// throw is an Event::Trouble. A session that had begun before is told from its next event on.
class Watch {
public:
    using Clock = std::chrono::steady_clock;

    // A transaction: a MAIL that was well-formed, and what followed.
    struct Mail {
        enum class End {
            answered,  // it was here: `verdict` is what its sender was told, by LMTP the worst of it
            refused,   // `verdict` is the answer to MAIL, DATA, BDAT or a text that was read away
            dropped,   // the client has thought better of it: RSET, EHLO, QUIT
            lost,      // the session ended before it was complete
        };
        std::string id{};                    // of the message; "" of one that has never been here
        std::string from{};                  // "a@b", "" for the null sender
        std::size_t recipients = 0;          // that were taken by RCPT, at the end of the text those in client.TO
        std::size_t refused = 0;             // RCPT that were not
        std::size_t answers = 0, taken = 0;  // to the text, and those of them that were positive
        std::uint64_t size = 0;              // octets; 0 of one that has never been here
        Reply verdict{0, "", ""};
        End end = End::lost;
        Clock::time_point began{}, ended{};
        Clock::time_point arrived{};  // when it was here; the epoch, if never
    };

    struct Session {
        std::string server{};  // Options::name, or the host name
        std::string id{}, peer{}, helo{}, user{}, tls_version{}, tls_cipher{}, tls_problem{};
        std::size_t commands = 0;
        std::size_t mails = 0;    // answered, and taken for somebody
        std::size_t refused = 0;  // mails that were answered or refused, and taken for nobody
        std::uint64_t bytes = 0;  // octets of the messages that were here
        Reply last{0, "", ""};    // what was said at the end; code 0: the connection was lost
        Clock::time_point began{}, ended{};
        // Why it ended, in a word: "quit", "lost", "timeout", "shutdown", "tls" (the handshake failed), "limit" (of
        // commands, errors, connections: 421 4.7.0), "error" (another 421), "refused".
        std::string why() const;
    };

    struct Heard {
        std::function<void(const Session&, const Mail&)> mail{};
        std::function<void(const Session&)> session{};
    };
    explicit Watch(Heard heard);

    // Listens to it, as long as it lives or until these are given to Pipeline::off(); this object may go before. Once
    // for each pipeline.
    std::vector<Pipeline::Listener> listen(Pipeline& pipeline) const;
    // How many sessions are under way.
    std::size_t sessions() const;

private:
    struct State;
    std::shared_ptr<State> state_;
};

const char* name(Watch::Mail::End);  // "answered"

}  // namespace Net::SMTP
