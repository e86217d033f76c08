// next_hop -- the kit's scripted server as a relay meets it: polite, unless it was told how to misbehave.
#pragma once

#include <doctest/doctest.h>

#include <map>

#include "peer.hpp"

namespace test {

// What a next hop heard on one connection.
struct Heard {
    std::vector<std::string> commands;  // without CRLF; "." for the end of a text
    std::string text;                   // of DATA as it came, dots doubled, without the last line; of BDAT the octets
    std::string octets;                 // all of them
    bool ended = false;                 // by QUIT
    bool complete = false;              // a text came to its end
};

// Answers by the longest beginning of a command it has a line for; "" is the greeting, "." the end of a text. Lines of
// a reply are separated by '\n'. In place of a reply: CLOSE, RESET, STALL (says nothing any more), FLOOD (a reply
// without an end), LONG (a line without an end); "RAW:..." is sent as it is.
using Manners = std::map<std::string, std::string>;

class NextHop {
public:
    explicit NextHop(const Manners& manners = {},
                     const std::string& keywords = "PIPELINING\nSIZE 1000000\n8BITMIME\nENHANCEDSTATUSCODES") {
        const Manners polite{{"", "220 next.test ESMTP"},
                             {"EHLO", keywords.empty() ? "250 next.test" : "250 next.test\n" + keywords},
                             {"HELO", "250 next.test"},
                             {"MAIL", "250 2.1.0 sender fine"},
                             {"RCPT", "250 2.1.5 recipient fine"},
                             {"DATA", "354 go on"},
                             {"BDAT", "250 2.0.0 chunk taken"},
                             {".", "250 2.0.0 taken by the next hop"},
                             {"RSET", "250 2.0.0 forgotten"},
                             {"NOOP", "250 2.0.0 done"},
                             {"QUIT", "221 2.0.0 bye"}};
        for (const auto* some : {&polite, &manners})
            for (const auto& [command, reply] : *some) server_.on(command, act(reply));
    }

    std::string address() const { return server_.address(); }
    // Whether anybody has come.
    bool asked() const { return !server_.conversations().empty(); }
    // What was heard so far of connections that are over, in the order they came.
    std::vector<Heard> all() const {
        std::vector<Heard> out;
        for (const auto& c : server_.conversations())
            if (c.end != Test::Conversation::End::open) out.push_back(heard(c));
        return out;
    }
    // The same when all connections have ended.
    std::vector<Heard> end() {
        try {
            server_.finish(2 * patience);
        } catch (const std::exception& e) {
            MESSAGE("next hop: " << e.what());
        }
        return all();
    }
    Heard only() {
        auto heard = end();
        if (heard.size() != 1) throw std::runtime_error("there were " + std::to_string(heard.size()) + " connections");
        return heard.front();
    }

private:
    static Heard heard(const Test::Conversation& c) {
        Heard out{c.commands, "", c.octets, c.end == Test::Conversation::End::quit, false};
        if (!c.texts.empty()) out.text = c.texts.back().wire;
        for (const auto& text : c.texts) out.complete |= text.complete;
        return out;
    }

    static Test::Act act(const std::string& reply) {
        using Test::Act;
        if (reply == "CLOSE") return Act::close();
        if (reply == "RESET") return Act::reset();
        if (reply == "STALL") return Act::stall();
        if (reply == "FLOOD") return Act::endless_lines();
        if (reply == "LONG") return Act::endless_line();
        if (reply.starts_with("RAW:")) return Act::raw(reply.substr(4));
        std::string out;
        for (std::size_t at = 0; at <= reply.size();) {
            const auto stop = std::min(reply.find('\n', at), reply.size());
            const auto line = reply.substr(at, stop - at);
            const bool last = stop == reply.size();
            // The code stands in the first line only.
            out += at == 0 ? line.substr(0, 3) + (last ? ' ' : '-') + line.substr(std::min<std::size_t>(4, line.size()))
                           : reply.substr(0, 3) + (last ? ' ' : '-') + line;
            out += "\r\n";
            at = stop + 1;
        }
        return Act::raw(out);
    }

    Test::ScriptedServer server_;
};

// A relay to it that waits no longer than it must.
inline Relay::Options via(const NextHop& hop) {
    Relay::Options o;
    o.host = hop.address();
    o.hostname = "relay.test";
    o.total = slower * 15s;
    const auto each = slower * 10s;
    o.patience = {each, each, each, each, each, each, each, each, 2s};
    return o;
}

inline std::vector<Recipient> recipients(std::initializer_list<const char*> names) {
    std::vector<Recipient> all;
    for (const auto* name : names) all.emplace_back(name);
    return all;
}

}  // namespace test
