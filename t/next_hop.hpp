// next_hop -- a server that a relay meets: polite, unless it was told how to misbehave.
#pragma once

#include <map>
#include <mutex>

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
    NextHop(const NextHop&) = delete;
    NextHop& operator=(const NextHop&) = delete;
    explicit NextHop(Manners manners = {},
                     std::string keywords = "PIPELINING\nSIZE 1000000\n8BITMIME\nENHANCEDSTATUSCODES")
        : manners_(std::move(manners)), server_(Addresses{"127.0.0.1:0"}) {
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
        manners_.insert(polite.begin(), polite.end());
        thread_ = Background([this] {
            while (auto connection = server_.accept()) {
                const int fd = dup(connection.fd());
                connection.close();
                sessions_.emplace_back([this, fd] { serve(Wire(fd)); });
            }
        });
    }
    ~NextHop() { end(); }

    std::string address() const { return server_.address(); }
    // Whether anybody has come.
    bool asked() { return !all().empty(); }
    // What was heard so far, connection by connection, in the order of their ends.
    std::vector<Heard> all() {
        std::lock_guard lock(mutex_);
        return heard_;
    }
    // The same when all connections have ended.
    std::vector<Heard> end() {
        server_.close();
        try {
            thread_.join();
            for (auto& s : sessions_) s.join();
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
    // The manner for a command.
    const std::string& manner(const std::string& command) const {
        if (command.empty()) return manners_.at("");
        if (command == ".") return manners_.at(".");
        const std::string* best = nullptr;
        for (const auto& [beginning, reply] : manners_)
            if (!beginning.empty() && beginning != "." && command.starts_with(beginning)) best = &reply;
        static const std::string unknown = "500 5.5.1 what?";
        return best ? *best : unknown;
    }

    // False when the connection is over.
    bool answer(Wire& wire, const std::string& command) {
        const auto& reply = manner(command);
        if (reply == "CLOSE") return false;
        if (reply == "RESET") return wire.vanish(), false;
        if (reply == "STALL") {
            while (!wire.receive(2 * patience).empty()) {
            }
            return false;
        }
        if (reply == "FLOOD" || reply == "LONG") {
            const auto piece = reply == "LONG" ? std::string(1000, 'x') : "250-and so on\r\n";
            if (reply == "LONG") wire.send("250 ");
            for (const auto limit = Clock::now() + patience; Clock::now() < limit;)
                if (!wire.send(piece)) break;
            return false;
        }
        if (reply.starts_with("RAW:")) return wire.send(reply.substr(4));
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
        return wire.send(out);
    }

    void serve(Wire wire) {
        Heard heard;
        std::string buffer;
        auto fill = [&] {
            const auto octets = wire.receive(2 * patience);
            heard.octets += octets;
            buffer += octets;
            return !octets.empty();
        };
        try {
            bool goes_on = answer(wire, "");
            while (goes_on) {
                std::size_t end;
                while ((end = buffer.find("\r\n")) == buffer.npos)
                    if (!fill()) throw std::runtime_error("gone");
                const auto command = buffer.substr(0, end);
                buffer.erase(0, end + 2);
                heard.commands.push_back(command);
                if (command.starts_with("BDAT ")) {
                    const auto size = std::stoul(command.substr(5));
                    while (buffer.size() < size)
                        if (!fill()) throw std::runtime_error("gone");
                    heard.text = buffer.substr(0, size);
                    heard.complete = true;
                    buffer.erase(0, size);
                }
                goes_on = answer(wire, command);
                if (command == "QUIT") heard.ended = true, goes_on = false;
                if (!goes_on || command != "DATA" || !manner(command).starts_with("354")) continue;
                while ((end = ("\r\n" + buffer).find("\r\n.\r\n")) == buffer.npos)
                    if (!fill()) {
                        heard.text = buffer;
                        throw std::runtime_error("gone");
                    }
                heard.text = buffer.substr(0, end);
                heard.complete = true;
                buffer.erase(0, end + 3);
                heard.commands.push_back(".");
                goes_on = answer(wire, ".");
            }
        } catch (const std::exception&) {
            // the other side has gone; what it said is what counts
        }
        std::lock_guard lock(mutex_);
        heard_.push_back(std::move(heard));
    }

    Manners manners_;
    Server server_;
    std::mutex mutex_;
    std::vector<Heard> heard_;
    std::vector<Background> sessions_;
    Background thread_;
};

// A relay to it that waits no longer than it must.
inline Relay::Options via(const NextHop& hop) {
    Relay::Options o;
    o.host = hop.address();
    o.hostname = "relay.test";
    o.total = 15s;
    o.patience = {10s, 10s, 10s, 10s, 10s, 10s, 10s, 10s, 2s};
    return o;
}

inline std::vector<Recipient> recipients(std::initializer_list<const char*> names) {
    std::vector<Recipient> all;
    for (const auto* name : names) all.emplace_back(name);
    return all;
}

}  // namespace test
