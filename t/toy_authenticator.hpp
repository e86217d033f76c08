// toy_authenticator -- mechanisms that behave as a test wants it, and a book of what the listeners heard.
#pragma once

#include <atomic>
#include <map>

#include "../Server/Base64.hpp"
#include "dialogue.hpp"

namespace test {

using Step = AuthExchange::Step;
using Is = Step::Is;
using Response = std::optional<std::string_view>;

// An exchange that is one function from response to step.
class ToyExchange : public AuthExchange {
public:
    using Function = std::function<Step(Response)>;
    explicit ToyExchange(Function f, bool client_first = true) : f_(std::move(f)), client_first_(client_first) {}
    bool client_first() const override { return client_first_; }
    Step step(Response response) override { return f_(response); }

private:
    Function f_;
    bool client_first_;
};

// Knows one user, "joe" with the password "sesame", and mechanisms by name; more can be added.
class Toy : public Authenticator {
public:
    using Make = std::function<std::unique_ptr<AuthExchange>(const Channel&)>;

    Toy();
    std::vector<std::string> mechanisms(const Channel& channel) const override {
        if (on_mechanisms) on_mechanisms(channel);
        return offer;
    }
    std::unique_ptr<AuthExchange> begin(std::string_view mechanism, const Channel& channel) override {
        ++begun;
        const auto found = made.find(std::string(mechanism));
        return found == made.end() ? nullptr : found->second(channel);
    }
    bool trusted(const std::string& user) const override {
        if (user == "thrower") throw std::runtime_error("the list of the trusted is gone");
        return user == "gateway";
    }

    // A client-first mechanism.
    void add(const std::string& name, std::function<Step(Response)> f) {
        made[name] = [f](const Channel&) { return std::make_unique<ToyExchange>(f); };
    }

    std::vector<std::string> offer{"PLAIN", "ASK"};
    std::map<std::string, Make> made;
    std::function<void(const Channel&)> on_mechanisms{};
    std::atomic<int> begun{0};
};

inline const std::string credentials("\0joe\0sesame", 11);
inline const std::string wrong("\0joe\0secret", 11);
inline std::string plain(const std::string& octets = credentials) { return "AUTH PLAIN " + base64_encode(octets); }

inline Step judge(std::string_view name, std::string_view password) {
    const bool known = name == "joe" || name == "gateway" || name == "thrower";
    if (known && password == "sesame") return {Is::success, "", std::string(name)};
    return {Is::failure, "", std::string(name), known ? "wrong password" : "no such user"};
}

// RFC 4616, roughly.
inline Step toy_plain(Response response) {
    if (!response) return {Is::challenge};
    const auto first = response->find('\0'), second = response->find('\0', first + 1);
    if (first == response->npos || second == response->npos) return {Is::failure, "", "", "malformed"};
    return judge(response->substr(first + 1, second - first - 1), response->substr(second + 1));
}

inline Toy::Toy() {
    add("PLAIN", toy_plain);
    // The server asks first, for a name and for a password.
    made["ASK"] = [](const Channel&) {
        struct State {
            int step = 0;
            std::string name;
        };
        auto state = std::make_shared<State>();
        return std::make_unique<ToyExchange>(
            [state](Response response) -> Step {
                switch (state->step++) {
                    case 0: return {Is::challenge, "Name"};
                    case 1: state->name = *response; return {Is::challenge, "Password"};
                    default: return judge(state->name, *response);
                }
            },
            false);
    };
    // Data comes with the success, as with SCRAM's signature.
    add("SIGNED", [](Response r) -> Step {
        auto step = toy_plain(r);
        if (step.is == Is::success) step.data = "signature";
        return step;
    });
    // Says by a challenge that it was wrong, as OAUTHBEARER does.
    made["TELLING"] = [](const Channel&) {
        auto told = std::make_shared<bool>(false);
        return std::make_unique<ToyExchange>([told](Response r) -> Step {
            auto step = *told ? Step{Is::failure, "", "joe", "told before"} : toy_plain(r);
            if (step.is == Is::failure && !*told)
                step = {Is::challenge, "{\"status\":\"401\"}", "joe", "told"}, *told = true;
            return step;
        });
    };
    add("LATER", [](Response) -> Step { return {Is::later, "", "joe", "the directory is away"}; });
    add("THROWS", [](Response) -> Step { throw std::runtime_error("the directory's password is hush"); });
    add("THROWSINT", [](Response) -> Step { throw 42; });
    add("THROWSLATE", [](Response r) -> Step {
        if (r) throw std::runtime_error("the directory's password is hush");
        return {Is::challenge, "go on"};
    });
    add("ENDLESS", [](Response) -> Step { return {Is::challenge, "more"}; });
    add("NOBODY", [](Response r) -> Step { return r ? Step{Is::success} : Step{Is::challenge}; });
    // Everybody is who he says.
    add("NAME", [](Response r) -> Step { return r ? Step{Is::success, "", std::string(*r)} : Step{Is::challenge}; });
    add("REFUSES", [](Response r) -> Step {
        return r ? Step{Is::failure, "", std::string(*r), "on principle"} : Step{Is::challenge};
    });
}

// AUTH everywhere, and a failure is answered at once.
inline Setup authenticating(std::shared_ptr<Authenticator> toy = std::make_shared<Toy>()) {
    Setup setup;
    setup.options.auth = std::move(toy);
    setup.options.clear_auth = ClearAuth::everywhere;
    setup.options.auth_delay = 0s;
    setup.options.auth_failures = 0;
    setup.options.max_errors = 0;
    return setup;
}

// Encrypts nothing: a session only has to believe it.
class PlainLayer : public TLSLayer {
public:
    explicit PlainLayer(int fd) : fd_(fd) {}
    Did handshake(bool) override { return Did::done; }
    Did read(char* to, std::size_t size, std::size_t& got, bool wait) override {
        const auto n = recv(fd_, to, size, wait ? 0 : MSG_DONTWAIT);
        if (n > 0) got = std::size_t(n);
        return n > 0 ? Did::done : n == 0 ? Did::ended : errno == EAGAIN ? Did::wants_input : Did::failed;
    }
    Did write(const char* from, std::size_t size, std::size_t& sent) override {
        const auto n = ::send(fd_, from, size, MSG_NOSIGNAL);
        if (n > 0) sent = std::size_t(n);
        return n > 0 ? Did::done : Did::failed;
    }
    Did end(std::string_view last) noexcept override {
        ::send(fd_, last.data(), last.size(), MSG_NOSIGNAL);
        return Did::done;
    }
    const TLS& tls() const override { return tls_; }
    std::string channel_binding(std::string_view type) const override { return "bound by " + std::string(type); }
    std::string problem() const override { return ""; }

private:
    int fd_;
    TLS tls_{.version = "TLSv1.3"};
};
struct PlainTLS : TLSAcceptor {
    std::unique_ptr<TLSLayer> accept(int fd) override { return std::make_unique<PlainLayer>(fd); }
};

inline Setup with_plain_tls(std::shared_ptr<Authenticator> toy = std::make_shared<Toy>()) {
    auto setup = authenticating(std::move(toy));
    setup.options.tls = std::make_shared<PlainTLS>();
    setup.options.clear_auth = ClearAuth::never;
    return setup;
}

// What Event::Auth told, a line each: "PLAIN joe 235", "PLAIN joe 535 wrong password".
class Book {
public:
    void listen(Server& server) {
        server.on<Event::Auth>([this](Event::Auth& e) {
            std::lock_guard lock(mutex_);
            lines_.push_back(std::string(e.mechanism) + ' ' + e.user + ' ' + std::to_string(e.reply.code) +
                             (e.reason.empty() ? "" : ' ' + e.reason));
        });
    }
    std::vector<std::string> lines() const {
        std::lock_guard lock(mutex_);
        return lines_;
    }

private:
    mutable std::mutex mutex_;
    std::vector<std::string> lines_;
};

// A server that runs in a thread of its own, and is stopped in the end.
struct RunningServer {
    explicit RunningServer(Options options, std::function<void(Server&)> listeners = {},
                           const std::string& address = "127.0.0.1:0")
        : server(Addresses{address}, std::move(options)) {
        if (listeners) listeners(server);
        thread = Background([this] { server.run([](Server::Client& c) { c.accept(); }); });
    }
    ~RunningServer() { server.stop(); }
    Wire dial() {
        Wire wire = test::dial(server);
        wire.expect("220");
        wire.say("EHLO me");
        wire.expect("250");
        return wire;
    }
    Server server;
    Background thread;
};

inline const std::string greeted = "S: 220\nC: EHLO me\nS: 250\n";
inline const std::string mail =
    "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354\nC: x\nC: .\nS: 250\n";
inline const std::string in_step = "C: NOOP\nS: 250\nC: QUIT\nS: 221\nS: EOF\n";

}  // namespace test
