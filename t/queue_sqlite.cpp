// queue_sqlite -- a queue over its embedded store: what lies on the disk, what restarts and forks find there.
#include <sys/wait.h>
#include <unistd.h>

#include <Net/SMTP/Relay/SqliteStore.hpp>
#include <filesystem>

#include "queue_kit.hpp"

using namespace test;

namespace {

class Place {
public:
    Place() {
        std::string name = "/tmp/queue-test-XXXXXX";
        if (!mkdtemp(name.data())) throw std::runtime_error("no folder");
        path = name;
    }
    ~Place() { std::filesystem::remove_all(path); }
    std::size_t bodies() const {
        const auto all = std::filesystem::directory_iterator(path / "queue" / "bodies");
        return std::size_t(std::distance(begin(all), end(all)));
    }
    std::shared_ptr<SqliteStore> store() const { return std::make_shared<SqliteStore>((path / "queue").string()); }
    std::filesystem::path path;
};

std::string large(std::size_t size) {
    std::string text = "Subject: large\r\n\r\n";
    while (text.size() < size) text += "0123456789abcdef0123456789abcdef0123456789abcdef0123456789\r\n";
    return text;
}

}  // namespace

TEST_CASE("what is queued is delivered by whoever opens the folder next") {
    const Place folder;
    MailServer hop;
    std::string id;
    {
        auto o = to(hop);
        o.paused = true;
        Queue queue(folder.store(), o);
        id = queue.enqueue(Sender("a@x.test"), everybody({"b@y.test", "c@z.test"}), letter());
        queue.enqueue(Sender("a@x.test"), everybody({"d@y.test"}), Message(large(300'000)));
        CHECK(folder.bodies() == 1);
    }
    Queue queue(folder.store(), to(hop));
    CHECK(queue.item(id)->to.size() == 2);
    queue.start();
    const auto mails = hop.wait_for(3);
    CHECK(std::ranges::any_of(mails, [](const Test::Mail& m) { return m.text == large(300'000); }));
    CHECK(comes([&] { return queue.stats().messages == 0; }));
    CHECK(comes([&] { return folder.bodies() == 0; }));
}

TEST_CASE("a large text that comes by SMTP becomes a file of the store's") {
    const Place folder;
    MailServer hop;
    auto o = to(hop);
    o.paused = true;
    const auto queue = std::make_shared<Queue>(folder.store(), o);
    std::atomic<bool> spooled{false};
    Setup setup{.options = queue->apply(brief()), .listeners = [&](Server& s) {
                    s.on<Event::Answered>([&](Event::Answered& e) { spooled = e.message.spooled(); });
                    s.pipeline().add("queue", queue);
                }};
    Talk talk(setup);
    talk.play(
        "S: 220\nC: EHLO a.test\nS: 250\nC: MAIL FROM:<a@x.test>\nS: 250\nC: RCPT TO:<b@y.test>\nS: 250\nC: DATA\nS: "
        "354");
    talk.wire.send(large(200'000));
    talk.play("C: .\nS: 250 2.0.0 Queued as\nC: QUIT\nS: 221\nS: EOF");
    talk.end();
    CHECK(spooled);
    CHECK(folder.bodies() == 1);
    queue->start();
    queue->resume();
    const auto mails = hop.wait_for(1);
    CHECK(mails[0].text.ends_with(large(200'000)));
    CHECK(mails[0].text.starts_with("Received: from a.test"));
    CHECK(comes([&] { return folder.bodies() == 0; }));
}

TEST_CASE("forked children enqueue, and their parent delivers") {
    const Place folder;
    MailServer hop;
    auto o = to(hop);
    Queue queue(folder.store(), o);
    queue.enqueue(Sender("a@x.test"), everybody({"parent@y.test"}), letter());  // what it opens is inherited
    std::vector<pid_t> children;
    for (int i = 0; i < 5; ++i) {
        const auto child = fork();
        if (child == 0) {
            int failed = 1;
            try {
                queue.enqueue(Sender("a@x.test"), {Recipient("c" + std::to_string(i) + "@y.test")}, letter());
                failed = 0;
            } catch (const std::exception&) {
            }
            _exit(failed);
        }
        children.push_back(child);
    }
    for (const auto child : children) {
        int status = 0;
        REQUIRE(waitpid(child, &status, 0) == child);
        CHECK(status == 0);
    }
    queue.start();
    hop.wait_for(6);
    CHECK(comes([&] { return queue.stats().messages == 0; }));
    std::set<std::string> who;
    for (const auto& mail : hop.mails()) who.insert(mail.to.at(0).str());
    CHECK(who.size() == 6);
}

TEST_CASE("a process enqueues, and the one that delivers notices") {
    const Place folder;
    MailServer hop;
    Queue delivers(folder.store(), to(hop)), brings(folder.store(), to(hop));
    delivers.start();
    brings.enqueue(Sender("a@x.test"), everybody({"b@y.test"}), letter());
    hop.wait_for(1);
    CHECK(comes([&] { return delivers.stats().messages == 0; }));
}
