// ScriptedServer -- a server in the background that does what it is told, right or wrong, and records what it heard.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "../Endpoint.hpp"
#include "../Reply.hpp"
#include "Act.hpp"
#include "Failure.hpp"

namespace Net::SMTP::Test {

// One connection to a ScriptedServer, as the server saw it. Of what a client says the first `keep` octets are kept.
struct Conversation {
    // A mail's text, by DATA or by BDAT.
    struct Text {
        std::string wire;       // of DATA as it came, dots doubled, without the line that ends it; of BDAT the octets
        bool chunks = false;    // by BDAT
        bool complete = false;  // its end has come: the line with the dot, or the last chunk
        // The text that was meant: the dots undone.
        std::string text() const;
    };
    enum class End {
        open,     // it goes on
        quit,     // QUIT was said; also when the client said more, or left without the answer
        client,   // the client left, or was cut off
        script,   // an act ended it
        silence,  // the client said nothing, or took nothing, for too long
        excess,   // a command line without an end, more commands or connections than a test can need
    };

    std::size_t number = 0;  // 1 is the first
    Endpoint peer;
    std::vector<std::string> commands;  // without CRLF, as they were written; "." for the end of a text
    std::vector<Text> texts;            // begun ones too
    std::string octets;                 // all that was heard, but for TLS's own: what it hid is here in the clear
    bool encrypted = false;             // an Act::encrypt() went well
    std::size_t in_the_clear = 0;       // how many of `commands` came before that; all where there was none
    std::string server_name;            // whom the client asked for then (SNI)
    std::string transcript;             // of both sides, shortened, for a person to read
    End end = End::open;

    // Whether a command began so; letters without case.
    bool said(std::string_view beginning) const;
};

// Listens from its construction on, with a thread for each connection. Polite until it is told otherwise: it says yes
// to everything, in the order of the commands, whether or not they make sense, to a pipelined group and by LMTP too
// (after LHLO a text has a reply for each recipient that was accepted). Any thread may call any member. The destructor
// cuts what is open and waits for its threads, which end at once. No connection lasts longer than half an hour.
//
//     Test::ScriptedServer hop;
//     hop.reply_to("RCPT TO:<bad@", {550, "5.1.1", "No such user"});
//     hop.on({.command = "MAIL", .nth = 2}, Act::reset());
class ScriptedServer {
public:
    using milliseconds = std::chrono::milliseconds;

    struct Options {
        std::string listen = "127.0.0.1:0";      // one address, as Server takes it
        std::string hostname = "scripted.test";  // in the greeting and the answer to EHLO
        std::vector<std::string> keywords{"PIPELINING", "SIZE 10485760", "8BITMIME", "ENHANCEDSTATUSCODES"};
        milliseconds patience{20'000};  // for a client to say something, and for each act's octets to be taken
        std::size_t keep = 64 << 20;    // octets of one connection; what comes beyond is heard and forgotten
    };
    // std::system_error when it can't listen.
    ScriptedServer();
    explicit ScriptedServer(Options options);
    ~ScriptedServer();
    ScriptedServer(const ScriptedServer&) = delete;
    ScriptedServer& operator=(const ScriptedServer&) = delete;

    std::string address() const;  // "127.0.0.1:34567"
    std::uint16_t port() const;

    // When it is an act's turn. `command` is how a command begins, letters without case ("RCPT TO:<bad@"), or "" for
    // the greeting, or "." for the end of a text, by DATA or by the last BDAT, unless a "BDAT" fits that one. By
    // LMTP the end is answered once for each recipient, as ". <bad@d>".
    struct When {
        std::string command;
        std::size_t nth = 0;         // only the n-th command that begins so (1 is the first), 0: each
        std::size_t connection = 0;  // only on the n-th connection, where `nth` is counted then; 0: on each, together
    };
    // Does that from now on. Where several fit, the longest beginning goes first, then what names `nth` or
    // `connection`, then what was said last. std::invalid_argument for what no command can begin with.
    void on(const When& when, const Act& act);
    void on(std::string_view command, const Act& act) { on(When{std::string(command)}, act); }
    void reply_to(std::string_view command, const Reply& reply) { on(command, Act(reply)); }

    // All connections so far, in their order, those that are open too.
    std::vector<Conversation> conversations() const;
    // The same when n of them are over, and when all are and nobody can come any more. Failure with their transcripts
    // when that takes too long.
    std::vector<Conversation> wait_for(std::size_t n, milliseconds within = std::chrono::seconds(10)) const;
    std::vector<Conversation> finish(milliseconds within = std::chrono::seconds(10));

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace Net::SMTP::Test
