// pipeline -- plugins by name and order, what they eat, who is called after whom, and that nothing which comes, goes or
// stumbles keeps the others from their work.
#include <doctest/doctest.h>

#include <Net/SMTP/Server.hpp>
#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>

using namespace Net::SMTP;

namespace {

using Names = std::vector<std::string>;

struct Ping : Event {
    explicit Ping(Names& h) : heard(h) {}
    Names& heard;
};
struct Question : Event {
    Reply* due() override { return &reply; }
    Reply reply{250, "2.0.0", "OK"};
};

// Writes down that it was asked.
std::shared_ptr<Plugin> writer(const std::string& name, Eat eat = Eat::none) {
    auto plugin = std::make_shared<Plugin>();
    plugin->on<Ping>([name, eat](Ping& e) {
        e.heard.push_back(name);
        return eat;
    });
    return plugin;
}

Names heard_by(const Pipeline& pipeline) {
    Names heard;
    Ping ping(heard);
    pipeline.send(ping);
    return heard;
}

// Has a book of where it was put.
struct Guest : Plugin {
    explicit Guest(bool w = true) : welcome(w) {}
    bool attached(Pipeline&, const std::string& name) override {
        book.push_back("+" + name);
        return welcome;
    }
    void detached(Pipeline&, const std::string& name) override { book.push_back("-" + name); }
    bool welcome;
    Names book;
};

}  // namespace

TEST_CASE("plugins are called in their order, and then the listeners in theirs") {
    Pipeline p;
    p.on<Ping>([](Ping& e) { e.heard.push_back("first listener"); });
    CHECK(p.add("b", writer("b")) == 1);
    CHECK(p.add("c", writer("c")) == 2);
    CHECK(p.add_first("a", writer("a")) == 3);
    p.on<Ping>([](Ping& e) { e.heard.push_back("second listener"); });
    CHECK(heard_by(p) == Names{"a", "b", "c", "first listener", "second listener"});
}

TEST_CASE("what a plugin eats: 4 codes, for the plugin behind it and for the listeners") {
    struct Row {
        Eat eat;
        bool plugin, listener;
    };
    for (const auto& row : {Row{Eat::none, true, true}, Row{Eat::client, true, false}, Row{Eat::plugin, false, true},
                            Row{Eat::all, false, false}}) {
        Pipeline p;
        p.add("one", writer("one", row.eat));
        p.add("two", writer("two"));
        p.on<Ping>([](Ping& e) { e.heard.push_back("listener"); });
        Names expected{"one"};
        if (row.plugin) expected.push_back("two");
        if (row.listener) expected.push_back("listener");
        CAPTURE(int(row.eat));
        CHECK(heard_by(p) == expected);
        Names heard;
        Ping ping(heard);
        CHECK(p.send(ping) == row.listener);
    }
}

TEST_CASE("every operation on the order does what its name says, and says whether it could") {
    Pipeline p;
    for (const std::string name : {"a", "b", "c", "d"}) p.add(name, writer(name));
    CHECK(p.order() == Names{"a", "b", "c", "d"});
    CHECK(p.insert_before("c", "x", writer("x")) == 5);
    CHECK(p.insert_after("c", "y", writer("y")) == 6);
    CHECK(p.order() == Names{"a", "b", "x", "c", "y", "d"});
    CHECK(p.index("c") == 3);
    CHECK(p.move_up("c"));
    CHECK(p.order() == Names{"a", "b", "c", "x", "y", "d"});
    CHECK(p.move_up("c", 9));
    CHECK(p.order() == Names{"c", "a", "b", "x", "y", "d"});
    CHECK(p.move_down("a", 2));
    CHECK(p.order() == Names{"c", "b", "x", "a", "y", "d"});
    CHECK(p.move_down("d", ~std::size_t{0}));
    CHECK(p.order() == Names{"c", "b", "x", "a", "y", "d"});
    const auto other = writer("other");
    CHECK(p.replace("x", "z", other) == 6);
    CHECK(p.replace("z", "z", writer("z")) == 6);  // its own name is free
    CHECK(p.order() == Names{"c", "b", "z", "a", "y", "d"});
    CHECK(p.remove_first());
    CHECK(p.remove_last());
    CHECK(p.remove("a"));
    CHECK(p.order() == Names{"b", "z", "y"});
    CHECK(heard_by(p) == Names{"b", "z", "y"});
    const auto all = p.list();
    REQUIRE(all.size() == 3);
    CHECK(all[1].first == "z");
    CHECK(all[1].second == p.get("z"));
    CHECK(p.name_of(*p.get("y")) == "y");
    CHECK(p.remove(*p.get("y")) != nullptr);
    CHECK(p.order() == Names{"b", "z"});
}

TEST_CASE("names that are unknown, taken or empty change nothing") {
    Pipeline p;
    CHECK(p.remove_first() == nullptr);
    CHECK(p.remove_last() == nullptr);
    p.add("a", writer("a"));
    p.add("b", writer("b"));
    CHECK(p.add("a", writer("again")) == 0);
    CHECK(p.add_first("b", writer("again")) == 0);
    CHECK(p.add("", writer("again")) == 0);
    CHECK(p.add("c", nullptr) == 0);
    CHECK(p.insert_before("nobody", "c", writer("c")) == 0);
    CHECK(p.insert_after("a", "b", writer("c")) == 0);
    CHECK(p.replace("nobody", "c", writer("c")) == 0);
    CHECK(p.replace("a", "b", writer("c")) == 0);
    CHECK(p.remove("nobody") == nullptr);
    CHECK(p.remove(*writer("stranger")) == nullptr);
    CHECK(!p.move_up("nobody"));
    CHECK(!p.move_down("nobody"));
    CHECK(p.get("nobody") == nullptr);
    CHECK(p.index("nobody") == std::nullopt);
    CHECK(p.name_of(*writer("stranger")) == "");
    CHECK(!p.off(17));
    CHECK(heard_by(p) == Names{"a", "b"});
}

TEST_CASE("a plugin hears when it comes and goes, and one that declines is not added") {
    const auto guest = std::make_shared<Guest>(), shy = std::make_shared<Guest>(false);
    {
        Pipeline p;
        Names told;
        p.on<Event::PluginAdded>([&](Event::PluginAdded& e) { told.push_back("+" + e.name); });
        p.on<Event::PluginRemoved>([&](Event::PluginRemoved& e) { told.push_back("-" + e.name); });
        CHECK(p.add("one", guest) == 1);
        CHECK(p.add("two", guest) == 2);  // twice, under two names
        CHECK(p.add("shy", shy) == 0);
        CHECK(p.remove("one") == guest);
        CHECK(p.replace("two", "three", writer("")) == 1);
        CHECK(p.add("four", guest) == 2);
        CHECK(told == Names{"+one", "+two", "-one", "-two", "+three", "+four"});
        CHECK(guest->book == Names{"+one", "+two", "-one", "-two", "+four"});
    }
    CHECK(guest->book.back() == "-four");
    CHECK(shy->book == Names{"+shy"});
}

TEST_CASE("a catch-all has the events it has no function for, the program's own too") {
    Pipeline p;
    Names seen;
    auto plugin = std::make_shared<Plugin>();
    plugin->on<Ping>([&](Ping&) { seen.push_back("ping"); }).otherwise([&](Event& e) {
        seen.push_back(dynamic_cast<Question*>(&e) ? "question" : "else");
        return Eat::all;
    });
    p.add("p", plugin);
    seen.clear();
    heard_by(p);
    Question question;
    CHECK(!p.send(question));
    CHECK(seen == Names{"ping", "question"});
}

TEST_CASE("a listener hears one kind or all, from its registration until it is taken off") {
    Pipeline p;
    int all = 0, pings = 0, registered = 0;
    const auto everything = p.on_all([&](Event& e) { (dynamic_cast<Event::Registered*>(&e) ? registered : all)++; });
    const auto one = p.on<Ping>([&](Ping&) { ++pings; });
    CHECK(registered == 1);
    heard_by(p);
    CHECK(all == 1);
    CHECK(pings == 1);
    CHECK(p.off(one));
    CHECK(!p.off(one));
    heard_by(p);
    CHECK(all == 2);
    CHECK(pings == 1);
    p.on<Event::Registered>([&](Event::Registered& e) { registered += &e.pipeline == &p; });
    CHECK(registered == 2);
    CHECK(p.off(everything));
    heard_by(p);
    CHECK(all == 2);
}

TEST_CASE("who throws is isolated: 451 where an answer is due, Trouble names it, and the others are called") {
    Pipeline p;
    std::vector<std::pair<std::string, std::string>> troubles;
    p.on<Event::Trouble>([&](Event::Trouble& e) {
        troubles.emplace_back(e.plugin, e.what);
        throw std::runtime_error("trouble with trouble");
    });
    int calls = 0;
    auto bad = std::make_shared<Plugin>(), worse = std::make_shared<Plugin>(), good = std::make_shared<Plugin>();
    bad->on<Question>([](Question&) { throw std::runtime_error("no room"); });
    worse->on<Question>([](Question&) { throw 42; });
    good->on<Question>([&](Question& e) {
        ++calls;
        CHECK(e.reply.code == 451);
    });
    p.add("bad", bad);
    p.add("worse", worse);
    p.add("good", good);
    p.on<Question>([](Question&) { throw std::logic_error("listener"); });
    p.on<Question>([&](Question&) { ++calls; });
    Question question;
    CHECK(p.send(question));
    CHECK(question.reply == Reply{451, "4.3.0", "Local error in processing"});
    CHECK(calls == 2);
    REQUIRE(troubles.size() == 3);
    CHECK(troubles[0] == std::pair<std::string, std::string>{"bad", "no room"});
    CHECK(troubles[1].first == "worse");
    CHECK(troubles[2] == std::pair<std::string, std::string>{"", "listener"});
}

TEST_CASE("a refusal that is thrown is the answer, and a later one may give another") {
    Pipeline p;
    p.on<Question>([](Question&) { throw Reject({550, "5.7.1", "no"}); });
    Question first;
    p.send(first);
    CHECK(first.reply == Reply{550, "5.7.1", "no"});
    p.on<Question>([](Question& e) { e.reply = {250, "2.0.0", "oh yes"}; });
    Question second;
    p.send(second);
    CHECK(second.reply.code == 250);
}

TEST_CASE("an event under way goes on with those that were there when it began") {
    Pipeline p;
    std::weak_ptr<Plugin> gone;
    Names heard;
    auto leaving = std::make_shared<Plugin>();
    gone = leaving;
    leaving->on<Ping>([&](Ping& e) {
        e.heard.push_back("leaving");
        p.remove("leaving");
        p.remove("next");
        p.add("late", writer("late"));
        CHECK(heard_by(p) == Names{"late", "listener"});  // another event sees it as it is now
    });
    p.add("leaving", leaving);
    leaving.reset();
    p.add("next", writer("next"));
    p.on<Ping>([](Ping& e) { e.heard.push_back("listener"); });
    CHECK(heard_by(p) == Names{"leaving", "next", "listener"});
    CHECK(gone.expired());
    CHECK(heard_by(p) == Names{"late", "listener"});
}

TEST_CASE("two pipelines do not mix") {
    Pipeline one, two;
    const auto shared = writer("shared");
    one.add("here", shared);
    two.add("there", shared);
    two.add("more", writer("more"));
    CHECK(heard_by(one) == Names{"shared"});
    CHECK(heard_by(two) == Names{"shared", "more"});
    CHECK(one.name_of(*shared) == "here");
}

TEST_CASE("any number of threads may send and change at once") {
    Pipeline p;
    std::atomic<bool> over{false};
    std::atomic<int> events{0}, first{0};
    auto steady = std::make_shared<Plugin>();
    steady->on<Ping>([&](Ping&) { ++first; });
    p.add("steady", steady);
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([&] {
            while (!over) {
                const auto heard = heard_by(p);
                CHECK(heard.size() <= 3);
                ++events;
            }
        });
    for (int i = 0; i < 3; ++i)
        threads.emplace_back([&, i] {
            const auto name = std::to_string(i);
            for (int n = 0; n < 200; ++n) {
                p.add(name, writer(name));
                p.move_up(name, std::size_t(n) % 3);
                const auto listener = p.on<Question>([](Question&) {});
                p.move_down("steady");
                if (n % 2 == 0) p.remove(name);
                else p.replace(name, name, writer(name)), p.remove(name);
                p.off(listener);
            }
        });
    for (std::size_t i = 4; i < threads.size(); ++i) threads[i].join();
    while (events < 100) std::this_thread::yield();
    over = true;
    for (std::size_t i = 0; i < 4; ++i) threads[i].join();
    CHECK(first == events);  // it was never away
    CHECK(p.order() == Names{"steady"});
}

namespace {

template <int N>
struct Numbered : Event {};

template <int N>
void send_one(const Pipeline& pipeline) {
    Numbered<N> event;
    pipeline.send(event);
}
template <int... N>
void send_each(const Pipeline& pipeline, std::integer_sequence<int, N...>) {
    (send_one<N>(pipeline), ...);
}

}  // namespace

TEST_CASE("a program may have more kinds of events than 64, and each is heard by those who asked for it alone") {
    Pipeline p;
    int early = 0, late = 0, all = 0;
    const auto each = std::make_integer_sequence<int, 100>();
    send_each(p, each);
    p.on<Numbered<0>>([&](Numbered<0>&) { ++early; });
    const auto listener = p.on<Numbered<99>>([&](Numbered<99>&) { ++late; });
    Pipeline::View view;
    CHECK(kind_of<Numbered<99>>() >= 64);
    CHECK(p.heard(kind_of<Numbered<99>>(), view));
    CHECK(!p.heard(kind_of<Numbered<98>>(), view));
    send_each(p, each);
    CHECK(early == 1);
    CHECK(late == 1);
    p.off(listener);
    CHECK(!p.heard(kind_of<Numbered<99>>(), view));
    p.on_all([&](Event& e) { all += dynamic_cast<Event::Registered*>(&e) == nullptr; });
    CHECK(p.heard(kind_of<Numbered<99>>(), view));
    send_each(p, each);
    CHECK(early == 2);
    CHECK(late == 1);
    CHECK(all == 100);
}
