// pipeline_attack -- plugins and listeners that throw, vanish, move each other and nest events, in sessions and
// without.
#include <atomic>
#include <new>

#include "over_tls.hpp"
#include "toy_authenticator.hpp"

using namespace test;

namespace {

using PluginPointer = Pipeline::PluginPointer;

struct Ping : Event {};

template <class Kind>
void listen(Server& server, const std::function<void()>& ill, std::atomic<int>& witness) {
    auto plugin = std::make_shared<Plugin>();
    plugin->on<Kind>([ill](Kind&) { ill(); });
    server.pipeline().add("ill", plugin);
    server.on<Kind>([ill](Kind&) { ill(); });
    server.on<Kind>([&witness](Kind&) { ++witness; });
}

struct Ill {
    std::string name;
    std::function<void(Server&, const std::function<void()>&, std::atomic<int>&)> listen;
};
const Ill kinds[] = {
    {"Connect", listen<Event::Connect>},   {"TLS", listen<Event::TLS>},
    {"Command", listen<Event::Command>},   {"Helo", listen<Event::Helo>},
    {"Auth", listen<Event::Auth>},         {"Mail", listen<Event::Mail>},
    {"Rcpt", listen<Event::Rcpt>},         {"Data", listen<Event::Data>},
    {"Arrived", listen<Event::Arrived>},   {"Answered", listen<Event::Answered>},
    {"Response", listen<Event::Response>}, {"Disconnect", listen<Event::Disconnect>},
    {"Trouble", listen<Event::Trouble>},
};

struct Thrown {
    std::string name;
    std::function<void()> act;
};
const Thrown thrown[] = {
    {"runtime_error", [] { throw std::runtime_error("hush"); }},
    {"bad_alloc", [] { throw std::bad_alloc(); }},
    {"int", [] { throw 42; }},
    {"Reject",
     [] {
         throw Reject({450, "4.7.1", "Not now"});
     }},
    {"Hangup",
     [] {
         throw Hangup({421, "4.7.1", "Enough"});
     }},
};

// Whatever is answered: all that a client may say until somebody closes.
void say_everything(Wire& wire) {
    const auto code = [&](const std::string& line) {
        wire.say(line);
        const auto reply = wire.reply();
        return reply.empty() ? 0 : std::stoi(reply.substr(0, 3));
    };
    try {
        if (wire.reply().substr(0, 3) != "220") return;
        code("EHLO me");
        if (code("STARTTLS") == 220) encrypt(wire);
        code("EHLO me");
        code(plain());
        code("MAIL FROM:<a@b>");
        code("RCPT TO:<c@d>");
        if (code("DATA") == 354) code("x\r\n.");
        code("MAIL FROM:<a@b>");
        code("RCPT TO:<c@d>");
        wire.send("BDAT 3 LAST\r\nabc");
        wire.reply();
        code("QUIT");
    } catch (const std::exception&) {  // it hung up
    }
}

// Counts its places, and how often it was called.
struct Counted : Plugin {
    Counted() {
        otherwise([this](Event&) { ++called; });
    }
    bool attached(Pipeline&, const std::string&) override { return ++here, true; }
    void detached(Pipeline&, const std::string&) override { --here; }
    std::atomic<int> called{0}, here{0};
};

}  // namespace

TEST_CASE("whatever is thrown in whichever event, the session lives to its end, and everybody else is called") {
    for (const auto& kind : kinds)
        for (const auto& what : thrown) {
            CAPTURE(kind.name);
            CAPTURE(what.name);
            Options o = with_tls();
            o.auth = std::make_shared<Toy>();
            o.clear_auth = ClearAuth::everywhere;
            o.auth_delay = std::chrono::seconds(0);
            std::atomic<int> witness{0}, ends{0};
            {
                RunningServer running(o, [&](Server& s) {
                    kind.listen(s, what.act, witness);
                    s.on<Event::Disconnect>([&](Event::Disconnect&) { ++ends; });
                    if (kind.name == "Trouble")
                        s.on<Event::Mail>([&](Event::Mail&) { throw std::runtime_error("oh"); });
                });
                auto wire = dial(running.server);
                say_everything(wire);
                wire.close();
                running.server.stop();
                running.thread.join();
                const auto& heard = wire.heard();
                CHECK(heard.find("hush") == heard.npos);
            }
            CHECK(witness > 0);
            CHECK(ends == 1);
        }
}

TEST_CASE("a listener that takes itself off is called once, one that is put on in an event hears the next") {
    Pipeline p;
    int once = 0, later = 0;
    Pipeline::Listener number = 0;
    number = p.on<Ping>([&](Ping&) {
        ++once;
        CHECK(p.off(number));
        CHECK(!p.off(number));
        p.on<Ping>([&](Ping&) { ++later; });
    });
    Ping ping;
    p.send(ping);
    CHECK(once == 1);
    CHECK(later == 0);
    p.send(ping);
    CHECK(once == 1);
    CHECK(later == 1);
}

TEST_CASE("a listener may take off one behind it: the event under way still reaches that one, the next does not") {
    Pipeline p;
    int heard = 0;
    Pipeline::Listener other = 0;
    p.on<Ping>([&](Ping&) { p.off(other); });
    other = p.on<Ping>([&](Ping&) { ++heard; });
    Ping ping;
    p.send(ping);
    p.send(ping);
    CHECK(heard == 1);
}

TEST_CASE("events within events, many deep, each with those that are there then") {
    Pipeline p;
    int depth = 0, deepest = 0;
    p.on<Ping>([&](Ping& e) {
        if (++depth < 50) {
            p.add("p" + std::to_string(depth), std::make_shared<Counted>());
            p.send(e);
        }
        deepest = std::max(deepest, depth--);
    });
    Ping ping;
    p.send(ping);
    CHECK(deepest == 50);
    CHECK(p.order().size() == 49);
}

TEST_CASE("a plugin that is removed and dropped in its own function lives until that has ended") {
    struct Leaves : Plugin {
        Leaves(Pipeline& p, std::atomic<int>& ended) : dead(ended) {
            on<Ping>([this, &p](Ping&) {
                p.remove("leaves");
                CHECK(p.get("leaves") == nullptr);
                text += "still here";  // a sanitizer knows better
            });
        }
        ~Leaves() override { ++dead; }
        std::atomic<int>& dead;
        std::string text = "a text that is too long for small strings: ";
    };
    std::atomic<int> dead{0};
    Pipeline p;
    p.add("leaves", std::make_shared<Leaves>(p, dead));
    Ping ping;
    p.send(ping);
    CHECK(dead == 1);
    CHECK(p.send(ping));
    CHECK(dead == 1);
}

TEST_CASE("a plugin that removes its own name when it is detached has left once") {
    struct Sure : Plugin {
        void detached(Pipeline& p, const std::string& name) override { ++left, p.remove(name), p.remove(*this); }
        int left = 0;
    };
    Pipeline p;
    const auto sure = std::make_shared<Sure>();
    p.add("sure", sure);
    CHECK(p.remove("sure") == sure);
    CHECK(sure->left == 1);
    CHECK(p.order().empty());
}

TEST_CASE("a plugin may put friends around itself when it comes, and take them along when it goes") {
    struct Host : Plugin {
        bool attached(Pipeline& p, const std::string& name) override {
            return p.add(name + "'s friend", std::make_shared<Plugin>()) > 0;
        }
        void detached(Pipeline& p, const std::string& name) override { p.remove(name + "'s friend"); }
    };
    Pipeline p;
    CHECK(p.add("host", std::make_shared<Host>()) == 2);
    CHECK(p.order() == Names{"host's friend", "host"});
    CHECK(p.add("host", std::make_shared<Host>()) == 0);
    CHECK(p.remove("host") != nullptr);
    CHECK(p.order().empty());
}

TEST_CASE("what attached() throws comes out, and nothing has changed") {
    struct Bad : Plugin {
        bool attached(Pipeline&, const std::string&) override { throw std::runtime_error("no"); }
    };
    Pipeline p;
    p.add("a", std::make_shared<Plugin>());
    CHECK_THROWS_AS(p.add("b", std::make_shared<Bad>()), std::runtime_error);
    CHECK_THROWS_AS(p.replace("a", "a", std::make_shared<Bad>()), std::runtime_error);
    CHECK(p.order() == Names{"a"});
}

TEST_CASE("of many threads that want one name, one gets it, and who came in vain has gone again") {
    Pipeline p;
    std::vector<std::shared_ptr<Counted>> plugins;
    for (int i = 0; i < 8; ++i) plugins.push_back(std::make_shared<Counted>());
    for (int round = 0; round < 50; ++round) {
        std::atomic<int> added{0};
        std::vector<std::unique_ptr<Background>> threads;
        for (auto& plugin : plugins)
            threads.push_back(std::make_unique<Background>([&, plugin] { added += p.add("one", plugin) > 0; }));
        for (auto& t : threads) t->join();
        CHECK(added == 1);
        int here = 0;
        for (auto& plugin : plugins) here += plugin->here;
        CHECK(here == 1);
        CHECK(p.remove("one") != nullptr);
    }
    for (auto& plugin : plugins) CHECK(plugin->here == 0);
}

TEST_CASE("one plugin under many names, moved about by many threads while events pass, is called once for each") {
    Pipeline p;
    const auto plugin = std::make_shared<Counted>();
    const auto stays = std::make_shared<Counted>();
    p.add("stays", stays);
    std::atomic<bool> over{false};
    std::atomic<int> sent{0};
    {
        std::vector<std::unique_ptr<Background>> threads;
        for (int i = 0; i < 3; ++i)
            threads.push_back(std::make_unique<Background>([&, i] {
                const auto name = "n" + std::to_string(i);
                for (int n = 0; n < 200; ++n) {
                    p.add(name, plugin);
                    p.move_up(name, std::size_t(n));
                    p.insert_before(name, name + "'", plugin);
                    p.replace(name + "'", name + "\"", plugin);
                    p.move_down("stays", 2);
                    p.remove(n % 2 ? name : name + "\"");
                    p.remove(n % 2 ? name + "\"" : name);
                }
            }));
        threads.push_back(std::make_unique<Background>([&] {
            Ping ping;
            while (!over) {
                p.send(ping);
                ++sent;
            }
        }));
        for (int i = 0; i < 3; ++i) threads[std::size_t(i)]->join();
        over = true;
        threads.back()->join();
    }
    CHECK(p.order() == Names{"stays"});
    CHECK(plugin->here == 0);
    CHECK(stays->called >= sent);  // and its share of PluginAdded
}

TEST_CASE("plugins that remove and add themselves and each other in every event of busy sessions break no session") {
    struct Jumper : Plugin {
        Jumper(std::string n, std::string o) : name(std::move(n)), other(std::move(o)) {
            otherwise([this](Event& e) {
                auto* client = e.whose();
                if (!client) return;
                auto& p = client->pipeline();
                if (auto self = p.remove(name)) p.add_first(name, self);
                p.move_down(other);
                if (auto it = p.remove(other)) p.add(other, it);
            });
        }
        std::string name, other;
    };
    std::atomic<int> mails{0};
    {
        RunningServer running(brief(), [&](Server& s) {
            s.pipeline().add("a", std::make_shared<Jumper>("a", "b"));
            s.pipeline().add("b", std::make_shared<Jumper>("b", "a"));
        });
        std::vector<std::unique_ptr<Background>> clients;
        for (int i = 0; i < 4; ++i)
            clients.push_back(std::make_unique<Background>([&] {
                auto wire = running.dial();
                for (int n = 0; n < 5; ++n) {
                    CHECK(wire.ask("MAIL FROM:<a@b>") == 250);
                    CHECK(wire.ask("RCPT TO:<c@d>") == 250);
                    CHECK(wire.ask("DATA") == 354);
                    CHECK(wire.ask("x\r\n.") == 250);
                    ++mails;
                }
                CHECK(wire.ask("QUIT") == 221);
            }));
        for (auto& c : clients) c->join();
    }
    CHECK(mails == 20);
}

TEST_CASE("a plugin in two servers serves both, and has left both when they and their sessions have gone") {
    const auto plugin = std::make_shared<Counted>();
    std::atomic<int> hellos{0};
    plugin->on<Event::Helo>([&](Event::Helo& e) {
        ++hellos;
        e.reply.text = "both";
    });
    {
        RunningServer one(brief(), [&](Server& s) { s.pipeline().add("x", plugin); });
        RunningServer two(brief(), [&](Server& s) { s.pipeline().add("y", plugin); });
        CHECK(plugin->here == 2);
        std::vector<std::unique_ptr<Background>> clients;
        for (int i = 0; i < 6; ++i)
            clients.push_back(std::make_unique<Background>([&, i] {
                auto wire = (i % 2 ? one : two).dial();
                CHECK(wire.ask("QUIT") == 221);
            }));
        for (auto& c : clients) c->join();
        CHECK(hellos == 6);
        CHECK(one.server.pipeline().remove(*plugin) == plugin);
        CHECK(plugin->here == 1);
        one.dial();
        CHECK(hellos == 6);
    }
    CHECK(plugin->here == 0);
}

TEST_CASE("a session that outlives its server has its plugins to the end, and then they leave") {
    const auto plugin = std::make_shared<Counted>();
    std::atomic<int> ends{0};
    plugin->on<Event::Disconnect>([&](Event::Disconnect& e) {
        ++ends;
        CHECK(e.client.pipeline().name_of(*plugin) == "p");
    });
    auto server = std::make_unique<Server>(Addresses{"127.0.0.1:0"}, brief());
    server->pipeline().add("p", plugin);
    auto wire = dial(*server);
    auto client = std::make_unique<Server::Client>(server->accept());
    server.reset();
    CHECK(plugin->here == 1);
    Background session([&] {
        CHECK(!client->process());
        CHECK(plugin->here == 1);
        client.reset();
    });
    wire.expect("220");
    CHECK(wire.ask("EHLO me") == 250);
    CHECK(wire.ask("QUIT") == 221);
    session.join();
    CHECK(ends == 1);
    CHECK(plugin->here == 0);
}

TEST_CASE("a view of the pipeline keeps no plugin that is gone, once the session has been silent") {
    // A session that waits for a command has looked at the pipeline; who is removed meanwhile shall not stay for ever.
    const auto dead = std::make_shared<std::atomic<bool>>(false);
    struct Heavy : Plugin {
        explicit Heavy(std::shared_ptr<std::atomic<bool>> d) : gone(std::move(d)) {
            on<Event::Helo>([](Event::Helo&) {});
        }
        ~Heavy() override { *gone = true; }
        std::shared_ptr<std::atomic<bool>> gone;
    };
    RunningServer running(brief(), [&](Server& s) { s.pipeline().add("heavy", std::make_shared<Heavy>(dead)); });
    auto wire = running.dial();
    running.server.pipeline().remove("heavy");
    CHECK(eventually([&] { return dead->load(); }));
    CHECK(wire.ask("NOOP") == 250);
}

TEST_CASE("however a dialogue is cut into segments, the same events come in the same order") {
    const std::string script =
        "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nC: RCPT TO:<c@d>\nC: DATA\nS: 250\nS: 250\nS: 354\nC: "
        "Subject: "
        "x\nC:\nC: ..\nC: .\nS: 250\nC: MAIL FROM:<a@b>\nC: RCPT TO:<c@d>\nC: BDAT 5\nc: MAIL \nC: BDAT 2 LAST\nc: "
        "\\r\\n\nC: RSET\nC: QUIT\nS: 250\nS: 250\nS: 250\nS: 250\nS: 250\nS: 221\nS: EOF";
    Names expected;
    for (const auto pace : {Pace::groups, Pace::octets, Pace::pieces}) {
        const auto heard = std::make_shared<Names>();
        Setup s;
        s.pace = pace;
        s.listeners = [heard](Server& server) {
            server.on<Event::Command>([heard](Event::Command& e) { heard->push_back(e.line); });
            server.on<Event::Response>([heard](Event::Response& e) { heard->push_back(std::to_string(e.reply.code)); });
            server.on<Event::Arrived>([heard](Event::Arrived& e) { heard->emplace_back(e.client.MSG.view()); });
            server.on<Event::Disconnect>([heard](Event::Disconnect&) { heard->push_back("end"); });
        };
        dialogue(script, s);
        if (expected.empty()) expected = *heard;
        CHECK(*heard == expected);
        CHECK(heard->size() > 20);
    }
}
