// relay_target -- a relay to a target of the program's own: what the target says is what the sender hears.
#include "dialogue.hpp"
#include "next_hop.hpp"

using namespace test;

namespace {

// Does what it is told, and remembers what it was given.
struct Told : Target {
    using Replies = std::vector<Reply>;
    explicit Told(std::function<Replies(std::span<const Recipient>, const Wait&)> w) : work(std::move(w)) {}
    Replies deliver(const Sender& from, std::span<const Recipient> to, const Message& message, const std::string& head,
                    const Wait& wait) override {
        seen += from.str() + '|' + std::to_string(to.size()) + '|' + head + std::string(message.view());
        return work(to, wait);
    }
    std::string name() const override { return "told"; }
    std::function<Replies(std::span<const Recipient>, const Wait&)> work;
    std::string seen;
};

const std::string mail =
    "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<one@d>\nS: 250\nC: RCPT TO:<two@d>\nS: "
    "250\nC: DATA\nS: 354\nC: hello\nC: .\n";
const std::string farewell = "\nC: QUIT\nS: 221";

Played relayed(const std::shared_ptr<Told>& target, const std::string& answer) {
    Setup setup;
    setup.listeners = [](Server&) {};
    setup.handler = [&](Server::Client& c) {
        const Relay relay(c.FROM, c.TO, c.MSG, {.target = target});
        for (const auto& r : relay.results()) CHECK(r.host == "told");
    };
    return dialogue(mail + answer + farewell, setup);
}

}  // namespace

TEST_CASE("a target gets sender, recipients, a Received field and the text; its yes is the sender's") {
    const auto target = std::make_shared<Told>([](std::span<const Recipient> to, const Wait&) {
        return Told::Replies(to.size(), {250, "2.1.5", "kept"});
    });
    CHECK(relayed(target, "S: 250 2.1.5 kept").troubles.empty());
    CHECK(target->seen.starts_with("a@b|2|Received: from me"));
    CHECK(target->seen.ends_with("\r\nhello\r\n"));
}

TEST_CASE("a target's no is the sender's, and a mixture is 451 with a word to the program") {
    relayed(std::make_shared<Told>([](auto to, const Wait&) {
                return Told::Replies(to.size(), {552, "5.2.2", "full"});
            }),
            "S: 552 5.2.2 full");
    const auto mixed = relayed(std::make_shared<Told>([](auto, const Wait&) {
                                   return Told::Replies{{250, "", "ok"}, {550, "5.1.1", "no such user"}};
                               }),
                               "S: 451 4.1.1 no such user");
    CHECK(mixed.troubles.size() == 1);
}

TEST_CASE("a target that throws, or does not say enough, is 451, and the program hears why") {
    const auto thrown =
        relayed(std::make_shared<Told>([](auto, const Wait&) -> Told::Replies { throw std::runtime_error("secret"); }),
                "S: 451 4.3.0");
    CHECK(thrown.troubles == std::vector<std::string>{"told: secret"});
    CHECK(thrown.heard.find("secret") == std::string::npos);
    const auto few = relayed(std::make_shared<Told>([](auto, const Wait&) {
                                 return Told::Replies{{250, "", "ok"}};
                             }),
                             "S: 451 4.3.0");
    CHECK(few.troubles.size() == 2);  // and that the recipients fared differently
}

TEST_CASE("a target's wait is over when the total is, and when the server's drain is") {
    const auto waits = std::make_shared<Told>([](auto to, const Wait& wait) {
        const auto limit = Clock::now() + patience;
        while (!wait.over() && Clock::now() < limit) std::this_thread::sleep_for(10ms);
        return Told::Replies(to.size(), {451, "4.4.7", wait.over() ? "over" : "not over"});
    });
    const Relay relay(Sender("a@b"), recipients({"c@d"}), Message("x\r\n"), {.target = waits, .total = 1s});
    CHECK(relay.results()[0].reply.text == "over");

    Server server(Addresses{"127.0.0.1:0"}, brief());
    std::promise<void> relaying;
    std::string text;
    Background running([&] {
        server.run(
            [&](Server::Client& c) {
                relaying.set_value();
                text = Relay(c.FROM, c.TO, c.MSG, {.target = waits}).results()[0].reply.text;
            },
            {.drain = 1s});
    });
    auto wire = dial(server);
    play(wire, mail);
    relaying.get_future().wait_for(patience);
    server.stop();
    CHECK_NOTHROW(running.join());
    CHECK(text == "over");
}
