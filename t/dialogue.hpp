// dialogue -- plays SMTP dialogues, written as the RFCs print them, against a session in a thread.
#pragma once

#include <doctest/doctest.h>

#include <mutex>
#include <random>

#include "peer.hpp"

namespace test {

// How the client's octets are cut into segments.
enum class Pace { groups, octets, pieces, at_once };

// What process() received.
struct Mail {
    Sender from;
    std::vector<Recipient> to;
    std::string text, helo, id, protocol;
    bool spooled = false, sunk = false;
};

// Short of what a session may take in the real world, long for a machine.
inline Options brief() {
    Options o;
    o.hostname = "mx.test";
    o.command_timeout = o.block_timeout = o.data_timeout = 15s;
    return o;
}

struct Setup {
    Options options = brief();
    std::function<void(Server::Client&)> handler = [](Server::Client& c) { c.accept(); };
    std::function<void(Server&)> listeners{};        // then the session comes from a real server
    std::function<void(Server::Client&)> program{};  // in place of the loop over process()
    Pace pace = Pace::groups;
    int type = SOCK_STREAM;
};

// A session in a thread, and the other end of its connection.
class Talk {
public:
    explicit Talk(Setup setup = {}) : state_(std::make_shared<State>(std::move(setup))), wire(-1) {
        auto& s = *state_;
        Connection connection;
        if (s.setup.listeners) {
            s.server = std::make_unique<Server>(std::vector<std::string>{"127.0.0.1:0"}, s.setup.options);
            s.server->on<Event::Trouble>([state = &s](Event::Trouble& e) {
                std::lock_guard lock(state->mutex);
                state->troubles.push_back(e.what);
            });
            s.setup.listeners(*s.server);
            wire = dial(*s.server);
            connection = s.server->accept();
        } else {
            const auto [ours, theirs] = socket_pair(s.setup.type);
            wire = Wire(ours);
            connection = Connection(theirs);
        }
        auto owned = std::make_shared<Connection>(std::move(connection));
        thread_ = Background([state = state_, owned] { state->run(std::move(*owned)); });
    }
    ~Talk() { wire.close(); }

    void play(std::string_view script);

    // Ends our side and waits for the session's end.
    const std::vector<Mail>& end() {
        wire.close();
        return wait();
    }
    const std::vector<Mail>& wait() {
        try {
            thread_.join();
        } catch (const std::exception& e) {
            wire.fail(e.what());
        }
        return state_->mails;
    }
    std::vector<std::string> troubles() const {
        std::lock_guard lock(state_->mutex);
        return state_->troubles;
    }

private:
    struct State {
        explicit State(Setup s) : setup(std::move(s)) {}
        void run(Connection connection) {
            std::optional<Server::Client> client;
            if (server) client.emplace(std::move(connection));
            else client.emplace(std::move(connection), setup.options);
            if (setup.program) return setup.program(*client);
            while (client->process()) {
                const auto& m = client->MSG;
                mails.push_back({client->FROM, client->TO, std::string(m.view()), client->helo(), m.id(),
                                 m.trace().protocol, m.spooled(), m.sunk()});
                setup.handler(*client);
            }
        }
        Setup setup;
        std::unique_ptr<Server> server;
        std::vector<Mail> mails;
        mutable std::mutex mutex;
        std::vector<std::string> troubles;
    };
    std::shared_ptr<State> state_;

public:
    Wire wire;

private:
    Background thread_;
};

struct Step {
    char who;  // S: a reply, C: a line, c: octets without line end
    std::string text;
};

inline std::vector<Step> steps(std::string_view script) {
    std::vector<Step> out;
    while (!script.empty()) {
        const auto end = std::min(script.find('\n'), script.size());
        auto line = script.substr(0, end);
        script.remove_prefix(std::min(end + 1, script.size()));
        line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
        if (line.empty() || line.starts_with("//")) continue;
        if (line.size() < 2 || line[1] != ':' || !std::strchr("SCc", line[0]))
            throw std::runtime_error("no step of a dialogue: " + std::string(line));
        out.push_back({line[0], std::string(line.substr(std::min<std::size_t>(3, line.size())))});
    }
    return out;
}

// "S: 250" is any 250 reply, of one line or many; "S: 250 2.1.0 Sen" begins so; "S: 250-" lines are compared one by
// one, up to the next without the hyphen. "S: EOF" and "C: EOF" are the ends of the directions. C: lines have escapes.
inline void play(Wire& wire, std::string_view script, Pace pace = Pace::groups) {
    const auto all = steps(script);
    auto octets = [](const Step& s) { return unescaped(s.text) + (s.who == 'C' ? "\r\n" : ""); };
    auto sends = [](const Step& s) { return s.who != 'S' && s.text != "EOF"; };
    if (pace == Pace::at_once) {
        std::string together;
        for (const auto& s : all)
            if (sends(s)) together += octets(s);
        wire.send(together);
    }
    std::mt19937 random(5321);
    bool within = false;  // a reply that is compared line by line
    for (std::size_t i = 0; i < all.size(); ++i) {
        const auto& s = all[i];
        if (s.who == 'S' && s.text == "EOF") {
            wire.expect_end();
        } else if (s.who == 'S') {
            const bool more = s.text.size() > 3 && s.text[3] == '-';
            if (!more && !within) {
                wire.expect(s.text);
            } else if (const auto line = wire.line(); !line.starts_with(s.text)) {
                wire.fail("expected: " + s.text + ", got: " + line);
            }
            within = more;
        } else if (s.text == "EOF") {
            wire.end();
        } else if (pace == Pace::octets) {
            for (char c : octets(s)) wire.send_alone({&c, 1});
        } else if (pace != Pace::at_once) {
            std::string group = octets(s);
            while (i + 1 < all.size() && sends(all[i + 1])) group += octets(all[++i]);
            if (pace == Pace::groups) {
                wire.send(group);
                continue;
            }
            for (std::string_view rest = group; !rest.empty();) {
                const auto n = std::min<std::size_t>(rest.size(), 1 + random() % 40);
                wire.send_alone(rest.substr(0, n));
                rest.remove_prefix(n);
            }
        }
    }
}

inline void Talk::play(std::string_view script) { test::play(wire, script, state_->setup.pace); }

struct Played {
    std::vector<Mail> mails;
    std::string heard;  // every octet of the server
    std::vector<std::string> troubles;
};

// A whole session.
inline Played dialogue(std::string_view script, Setup setup = {}) {
    Talk talk(std::move(setup));
    talk.play(script);
    Played played;
    played.mails = talk.end();
    played.heard = talk.wire.heard();
    played.troubles = talk.troubles();
    return played;
}

// From the greeting to RCPT, and a mail with that text.
inline const char* const opening = R"(
    S: 220
    C: EHLO me
    S: 250
    C: MAIL FROM:<a@b>
    S: 250
    C: RCPT TO:<c@d>
    S: 250
)";

inline void nothing(Server::Client&) {}

}  // namespace test
