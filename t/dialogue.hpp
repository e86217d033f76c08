// dialogue -- plays SMTP dialogues, written as the RFCs print them, against a session in a thread.
#pragma once

#include <doctest/doctest.h>

#include <mutex>
#include <random>

#include "peer.hpp"

namespace test {

// How the client's octets are cut into segments; see Test::Pace.
enum class Pace { groups, octets, pieces, at_once };

// See Test::ScriptedClient::play.
inline void play(Wire& wire, std::string_view script, Pace pace = Pace::groups) {
    using Cut = Test::Pace;
    wire.play(script, pace == Pace::octets    ? Cut::octets
                      : pace == Pace::pieces  ? Cut::pieces
                      : pace == Pace::at_once ? Cut::at_once
                                              : Cut::groups);
}

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

inline Setup listening(std::function<void(Server&)> listeners, Options options = brief()) {
    Setup s;
    s.options = std::move(options);
    s.listeners = std::move(listeners);
    return s;
}
inline Setup with_plugin(std::shared_ptr<Plugin> plugin, Options options = brief()) {
    return listening([plugin](Server& s) { CHECK(s.pipeline().add("plugin", plugin) == 1); }, std::move(options));
}

using Names = std::vector<std::string>;

// What any thread has noted, for the test's.
class Notes {
public:
    void add(std::string note) {
        const std::lock_guard lock(mutex_);
        all_.push_back(std::move(note));
    }
    Names all() const {
        const std::lock_guard lock(mutex_);
        return all_;
    }
    std::string str() const {
        std::string out;
        for (const auto& note : all()) out += (out.empty() ? "" : " ") + note;
        return out;
    }

private:
    mutable std::mutex mutex_;
    Names all_;
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

    void play(std::string_view script) { test::play(wire, script, state_->setup.pace); }

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

// A session that is asked about during RCPT by the options it was attached with, and whose mails are relayed.
inline Setup relaying(const Relay::Options& attached, const Relay::Options& relayed) {
    Setup setup;
    setup.listeners = [attached](Server& s) { Relay::attach(s, attached); };
    setup.handler = [relayed](Server::Client& c) { Relay(c.FROM, c.TO, c.MSG, relayed); };
    return setup;
}
inline Setup relaying(const Relay::Options& o) { return relaying(o, o); }

inline void nothing(Server::Client&) {}

}  // namespace test
