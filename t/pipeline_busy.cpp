// pipeline_busy -- the pipeline is rebuilt without a pause while 20 clients send mail, and nobody who is in it misses
// an event of theirs or has one twice.
#include <array>

#include "over_tls.hpp"

using namespace test;

namespace {

// The steps of a mail in the order of its events. Clients number their mails, so each event of a client has a number.
enum Step { mail, rcpt, data, arrived, answered, steps };

constexpr int clients = 20, mails_at_least = 3, rounds = 150;

// "<17.4@busy.test>" is the fifth mail of client 17.
struct Number {
    explicit Number(const Sender& from) {
        client = std::stoi(from.local);
        mail = std::stoi(from.local.substr(from.local.find('.') + 1));
    }
    int client, mail;
};

// What somebody hears of the clients, and whether it has missed an event. A client's events come one after the other.
class Book {
public:
    void write(const Sender& from, Step step) {
        const Number n(from);
        const int now = n.mail * steps + step;
        auto& page = pages_.at(std::size_t(n.client));
        if (page.last >= 0 && now != page.last + 1) ++gaps_;
        if (page.last < 0) page.first = now;
        page.last = now;
        ++heard_;
    }
    int gaps() const { return gaps_; }
    int heard() const { return heard_; }
    // How many of a client's events it has heard; -1 if not from the first one on.
    int whole(int client) const {
        const auto& page = pages_.at(std::size_t(client));
        return page.first == 0 ? page.last + 1 : -1;
    }

private:
    struct Page {
        int first = -1, last = -1;
    };
    std::array<Page, clients> pages_{};
    std::atomic<int> gaps_{0}, heard_{0};
};

// A plugin with a book.
struct Reader : Plugin {
    Reader() {
        on<Event::Mail>([this](Event::Mail& e) { book.write(e.sender, mail); });
        on<Event::Rcpt>([this](Event::Rcpt& e) { book.write(e.client.FROM, rcpt); });
        on<Event::Data>([this](Event::Data& e) { book.write(e.client.FROM, data); });
        on<Event::Arrived>([this](Event::Arrived& e) { book.write(e.client.FROM, arrived); });
        on<Event::Answered>([this](Event::Answered& e) { book.write(e.client.FROM, answered); });
    }
    bool attached(Pipeline&, const std::string&) override { return ++present > 0; }
    void detached(Pipeline&, const std::string&) override { --present; }
    Book book;
    std::atomic<int> present{0};
};

// A listener for each step.
class Ears {
public:
    explicit Ears(Server& server) : server_(server) {
        // The last step first: of a mail whose first one is heard all the others are.
        numbers_.push_back(server.on<Event::Answered>([this](Event::Answered& e) { hear(e.client.FROM, answered); }));
        numbers_.push_back(server.on<Event::Arrived>([this](Event::Arrived& e) { hear(e.client.FROM, arrived); }));
        numbers_.push_back(server.on<Event::Data>([this](Event::Data& e) { hear(e.client.FROM, data); }));
        numbers_.push_back(server.on<Event::Rcpt>([this](Event::Rcpt& e) { hear(e.client.FROM, rcpt); }));
        numbers_.push_back(server.on<Event::Mail>([this](Event::Mail& e) { hear(e.sender, mail); }));
    }
    // In the same order, so that a mail may lose its end, but no step in between.
    void off() {
        for (const auto number : numbers_) CHECK(server_.pipeline().off(number));
        numbers_.clear();
    }
    int wrong() const { return wrong_; }
    int heard() const { return heard_; }

private:
    // A step that is heard is the one behind the last, if the mail's first step was heard at all.
    void hear(const Sender& from, Step step) {
        const Number n(from);
        auto& last = last_.at(std::size_t(n.client));
        if (step == mail) last = {n.mail, mail};
        else if (last.mail == n.mail) wrong_ += step != last.step + 1, last.step = step;
        ++heard_;
    }
    struct Last {
        int mail = -1, step = -1;
    };
    Server& server_;
    std::vector<std::uint64_t> numbers_;
    std::array<Last, clients> last_{};
    std::atomic<int> wrong_{0}, heard_{0};
};

// 20 clients, every second one over TLS, that send mails until they are told to stop.
class Busy {
public:
    explicit Busy(Server& server) {
        for (int i = 0; i < clients; ++i)
            threads_.push_back(std::make_unique<Background>([this, &server, i] { talk(server, i); }));
    }
    // Until somebody's next mail has been answered.
    bool wait_for_another() const {
        const int seen = mails_;
        const auto end = Clock::now() + patience;
        while (mails_ == seen && Clock::now() < end) std::this_thread::yield();
        return mails_ != seen;
    }
    // How many mails each client has sent.
    std::vector<int> end() {
        over_ = true;
        for (auto& thread : threads_) thread->join();
        return sent_;
    }

private:
    void talk(Server& server, int client) {
        auto wire = dial(server);
        wire.expect("220");
        if (client % 2) {
            play(wire, "C: EHLO me\nS: 250\nC: STARTTLS\nS: 220\n");
            encrypt(wire);
        }
        play(wire, "C: EHLO me\nS: 250\n");
        int& sent = sent_[std::size_t(client)];
        while (!over_ || sent < mails_at_least) {
            const auto from = std::to_string(client) + '.' + std::to_string(sent);
            play(wire, "C: MAIL FROM:<" + from +
                           "@busy.test>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354\nC: x\nC: .\nS: 250\n");
            ++sent, ++mails_;
        }
        play(wire, "C: QUIT\nS: 221\nS: EOF");
    }
    std::atomic<bool> over_{false};
    std::atomic<int> mails_{0};
    std::vector<int> sent_ = std::vector<int>(clients);
    std::vector<std::unique_ptr<Background>> threads_;
};

struct Place {
    Server server{Addresses{"127.0.0.1:0"}, with_tls()};
    Background loop{[this] { server.run([](Server::Client& c) { c.accept(); }); }};
    Pipeline& pipeline = server.pipeline();
    ~Place() { server.stop(); }
};

}  // namespace

TEST_CASE("who stays hears each event of each mail once, however the others come, go and change places around it") {
    Place place;
    auto& pipeline = place.pipeline;
    auto still = std::make_shared<Reader>(), wandering = std::make_shared<Reader>();
    auto replaced = std::make_shared<Reader>();
    pipeline.add("still", still);
    pipeline.add("wandering", wandering);
    pipeline.add("replaced 0", replaced);
    Busy busy(place.server);
    for (int n = 0; n < rounds; ++n) {
        const auto name = "guest " + std::to_string(n % 3);
        pipeline.add_first(name, std::make_shared<Reader>());
        CHECK(pipeline.move_down("wandering", 2));
        CHECK(pipeline.replace("replaced " + std::to_string(n), "replaced " + std::to_string(n + 1), replaced) > 0);
        CHECK(pipeline.move_up("wandering", 9));
        if (n % 2) pipeline.remove("guest " + std::to_string((n + 1) % 3));
        else pipeline.insert_after("still", "neighbour " + std::to_string(n), std::make_shared<Plugin>());
        if (n % 4 == 3) pipeline.remove("neighbour " + std::to_string(n - 3));
        REQUIRE(busy.wait_for_another());
    }
    const auto sent = busy.end();
    for (const auto& reader : {still, wandering, replaced}) {
        CHECK(reader->book.gaps() == 0);
        for (int client = 0; client < clients; ++client)
            CHECK(reader->book.whole(client) == sent[std::size_t(client)] * steps);
    }
    CHECK(replaced->present == 1);
}

TEST_CASE("who comes and goes hears all that happens in between, without a gap") {
    Place place;
    auto& pipeline = place.pipeline;
    Busy busy(place.server);
    std::vector<std::shared_ptr<Reader>> guests;
    for (int n = 0; n < rounds; ++n) {
        guests.push_back(std::make_shared<Reader>());
        const auto name = std::to_string(n), before = std::to_string(n - 1);
        if (n % 3 == 0) CHECK(pipeline.add_first(name, guests.back()) > 0);
        if (n % 3 == 1) CHECK(pipeline.insert_before(before, name, guests.back()) > 0);
        if (n % 3 == 2) CHECK(pipeline.replace(before, name, guests.back()) > 0);
        REQUIRE(busy.wait_for_another());
        if (n % 3 == 2) {
            CHECK(pipeline.remove(name) == guests.back());
            CHECK(pipeline.remove(std::to_string(n - 2)) != nullptr);
        }
    }
    CHECK(pipeline.order().empty());
    busy.end();
    int heard = 0;
    for (const auto& guest : guests) {
        CHECK(guest->book.gaps() == 0);
        CHECK(guest->present == 0);
        heard += guest->book.heard();
    }
    CHECK(heard > rounds);
}

TEST_CASE("listeners that come and go hear the mails in between, their steps in order") {
    Place place;
    Busy busy(place.server);
    std::vector<std::unique_ptr<Ears>> ears;
    int heard = 0;
    for (int n = 0; n < rounds; ++n) {
        ears.push_back(std::make_unique<Ears>(place.server));
        const auto nothing = place.server.on<Event::Rcpt>([](Event::Rcpt&) {});
        REQUIRE(busy.wait_for_another());
        CHECK(place.pipeline.off(nothing));
        if (n % 2) ears[std::size_t(n - 1)]->off();
        if (n % 2) ears[std::size_t(n)]->off();
    }
    busy.end();
    for (const auto& e : ears) {
        CHECK(e->wrong() == 0);
        heard += e->heard();
    }
    CHECK(heard > rounds);
}

TEST_CASE("a plugin that judges, replaced by its stricter self, is one of both for each recipient and never none") {
    struct Judge : Plugin {
        explicit Judge(const std::string& text) {
            on<Event::Rcpt>([text](Event::Rcpt& e) {
                if (e.recipient.local == "no") e.reply = {550, "5.1.1", text};
            });
        }
    };
    Place place;
    place.pipeline.add("judge", std::make_shared<Judge>("lenient"));
    std::atomic<bool> over{false};
    std::atomic<int> lenient{0}, strict{0}, neither{0};
    std::vector<std::unique_ptr<Background>> threads;
    for (int i = 0; i < clients; ++i)
        threads.push_back(std::make_unique<Background>([&] {
            auto wire = dial(place.server);
            play(wire, "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\n");
            while (!over) {
                wire.say("RCPT TO:<no@d>");
                const auto reply = wire.reply();
                ++(reply == "550 5.1.1 lenient" ? lenient : reply == "550 5.1.1 strict" ? strict : neither);
            }
            play(wire, "C: QUIT\nS: 221\nS: EOF");
        }));
    const auto end = Clock::now() + patience;
    for (int n = 0; Clock::now() < end && (n < rounds || lenient < rounds || strict < rounds); ++n) {
        CHECK(place.pipeline.replace("judge", "judge", std::make_shared<Judge>(n % 2 ? "lenient" : "strict")) == 1);
        std::this_thread::yield();
    }
    over = true;
    for (auto& thread : threads) thread->join();
    CHECK(neither == 0);
    CHECK(lenient >= rounds);
    CHECK(strict >= rounds);
}
