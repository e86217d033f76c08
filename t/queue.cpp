// queue -- mail in a queue: how it comes, how it goes, and what becomes of it when it can't.
#include <Net/SMTP/Relay/Handlers.hpp>
#include "queue_kit.hpp"

#include <set>

using namespace test;

namespace {

std::vector<std::string> recipients_of(const MailServer& hop) {
    std::vector<std::string> all;
    for (const auto& mail : hop.mails())
        for (const auto& to : mail.to) all.push_back(to.str());
    std::ranges::sort(all);
    return all;
}

}  // namespace

TEST_CASE("mail that arrives is kept, answered with the queue's id, and delivered") {
    MailServer hop;
    Told t(to(hop));
    t.queue->start();
    Setup setup{.options = t.queue->apply(brief()),
                .listeners = [&](Server& s) { s.pipeline().add("queue", t.queue); }};
    setup.handler = [](Server::Client&) { FAIL("the queue has taken it"); };
    const auto played = dialogue(R"(
        S: 220
        C: EHLO a.test
        S: 250
        C: MAIL FROM:<joe@a.test> ENVID=12
        S: 250
        C: RCPT TO:<ann@b.test> NOTIFY=NEVER
        S: 250
        C: RCPT TO:<bob@C.test>
        S: 250
        C: DATA
        S: 354
        C: Subject: x
        C:
        C: ..
        C: .
        S: 250 2.0.0 Queued as
        C: QUIT
        S: 221
    )",
                                 setup);
    CHECK(played.troubles.empty());
    const auto mails = hop.wait_for(2);
    CHECK(recipients_of(hop) == std::vector<std::string>{"ann@b.test", "bob@C.test"});
    for (const auto& mail : mails) {
        CHECK(mail.from.str() == "joe@a.test");
        CHECK(mail.from.envid == "12");
        CHECK(mail.text.starts_with("Received: from a.test"));
        CHECK(mail.text.find("by mx.test with ESMTP id ") != std::string::npos);
        CHECK(mail.text.ends_with("Subject: x\r\n\r\n.\r\n"));
    }
    CHECK(t.empty());
    CHECK(t.hears("sent", 2));
    CHECK(t.count("queued") == 1);
}

TEST_CASE("who is named several times gets one copy, and each RCPT its answer") {
    MailServer hop;
    for (const auto protocol : {Protocol::smtp, Protocol::lmtp}) {
        Told t(to(hop));
        Options o = brief();
        o.protocol = protocol;
        Setup setup{.options = t.queue->apply(o), .listeners = [&](Server& s) { s.pipeline().add("queue", t.queue); }};
        const bool lmtp = protocol == Protocol::lmtp;
        const std::string taken = "S: 250 2.0.0 Queued as\n", named = "S: 250\n";
        dialogue("S: 220\nC: " + std::string(lmtp ? "LHLO" : "EHLO") + " a.test\nS: 250\nC: MAIL FROM:<joe@a.test>\n" +
                     named + "C: RCPT TO:<ann@b.test> NOTIFY=NEVER\n" + named + "C: RCPT TO:<ann@B.Test>\n" + named +
                     "C: RCPT TO:<\"ann\"@b.test>\n" + named + "C: RCPT TO:<Ann@b.test>\n" + named +
                     "C: DATA\nS: 354\nC: x\nC: .\n" + taken + (lmtp ? taken + taken + taken : "") + "C: QUIT\nS: 221",
                 setup);
        const auto items = t.queue->items();
        REQUIRE(items.size() == 1);
        REQUIRE(items[0].to.size() == 2);  // the case of a local part may matter (RFC 5321 2.4)
        CHECK(items[0].to[0].recipient.str() == "ann@b.test");
        CHECK(items[0].to[0].recipient.notify.never);
        CHECK(items[0].to[1].recipient.str() == "Ann@b.test");
    }
}

TEST_CASE("mail that goes round in circles is refused where the options say so") {
    MailServer hop;
    for (const auto& row : {std::pair{std::size_t(3), "554 5.4.6"}, {std::size_t(4), "250"}, {std::size_t(0), "250"}}) {
        const auto most = row.first;
        const auto* const code = row.second;
        CAPTURE(most);
        auto options = to(hop);
        options.max_hops = most;
        Told t(options);
        Setup setup{.options = t.queue->apply(brief()),
                    .listeners = [&](Server& s) { s.pipeline().add("queue", t.queue); }};
        dialogue(
            "S: 220\nC: EHLO a.test\nS: 250\nC: MAIL FROM:<joe@a.test>\nS: 250\nC: RCPT TO:<ann@b.test>\nS: 250\n"
            "C: DATA\nS: 354\nC: Received: 1\nC: Received: 2\nC: Received: 3\nC:\nC: x\nC: .\nS: " +
                std::string(code) + "\nC: QUIT\nS: 221",
            setup);
    }
}

TEST_CASE("51_enqueue: a message of the program's own is delivered, under its own id") {
    MailServer hop;
    Told t(to(hop));
    t.queue->start();
    CHECK(t.queue->enqueue(Sender("a@x.test"), everybody({"b@y.test"}), letter(), {.id = "mine"}) == "mine");
    const auto mails = hop.wait_for(1);
    CHECK(mails[0].text == "Subject: x\r\n\r\nhello\r\n");
    CHECK(t.hears("sent b@y.test"));
    CHECK(t.hears("queued mine"));
    const auto other = t.queue->enqueue(Sender(""), everybody({"b@y.test"}), letter());
    CHECK(other != "mine");
    CHECK(hop.wait_for(2)[1].from.null());
}

TEST_CASE("a text that came with its task is not asked for again") {
    struct Ahead : MemoryStore {
        std::vector<QueueTask> claim(const std::string& domain, QueueTime now, std::size_t limit,
                                     std::size_t together) override {
            auto tasks = MemoryStore::claim(domain, now, limit, together);
            for (auto& task : tasks) task.text = std::make_shared<const std::string>(MemoryStore::text(task).view());
            return tasks;
        }
        Message text(const QueueTask&) override { throw StoreError("asked again", {451, "4.3.0", "asked again"}); }
    };
    MailServer hop;
    Told t(to(hop), std::make_shared<Ahead>());
    t.queue->start();
    // Two ways: the text is shared by both.
    t.queue->enqueue(Sender("a@x.test"), everybody({"b@y.test", "c@z.test"}), letter());
    for (const auto& mail : hop.wait_for(2)) CHECK(mail.text == "Subject: x\r\n\r\nhello\r\n");
    CHECK(t.hears("sent", 2));
    CHECK(t.empty());
}

TEST_CASE("70_pause: what is queued while it is paused stays, and goes when it resumes") {
    MailServer hop;
    auto o = to(hop);
    o.paused = true;
    Told t(o);
    t.queue->start();
    CHECK(t.queue->paused());
    t.queue->enqueue(Sender("a@x.test"), everybody({"b@y.test"}), letter());
    CHECK(t.queue->items().size() == 1);
    CHECK(hop.mails().empty());
    t.queue->resume();
    CHECK(!t.queue->paused());
    hop.wait_for(1);
    CHECK(t.empty());
}

TEST_CASE("a pause that is kept holds for whoever opens the store next") {
    MailServer hop;
    const auto place = std::make_shared<MemoryPlace>();
    {
        Told t(to(hop), std::make_shared<MemoryStore>(place));
        t.queue->pause(true);
    }
    Told t(to(hop), std::make_shared<MemoryStore>(place));
    CHECK(t.queue->paused());
    t.queue->start();
    t.queue->enqueue(Sender("a@x.test"), everybody({"b@y.test"}), letter());
    t.queue->resume(true);
    hop.wait_for(1);
    CHECK(!Told(to(hop), std::make_shared<MemoryStore>(place)).queue->paused());
}

TEST_CASE("80_cancel: what is cancelled is not delivered") {
    MailServer hop;
    auto o = to(hop);
    o.paused = true;
    Told t(o);
    t.queue->start();
    const auto id = t.queue->enqueue(Sender("a@x.test"), everybody({"b@y.test", "c@z.test"}), letter());
    const auto other = t.queue->enqueue(Sender("a@x.test"), everybody({"d@y.test"}), letter());
    CHECK(t.queue->cancel(id) == Cancelled::found);
    CHECK(t.queue->cancel(id) == Cancelled::not_found);
    CHECK(t.queue->items().size() == 1);
    t.queue->resume();
    hop.wait_for(1);
    CHECK(t.empty());
    CHECK(recipients_of(hop) == std::vector<std::string>{"d@y.test"});
    CHECK(t.queue->cancel(other) == Cancelled::not_found);
}

TEST_CASE("what is being delivered can't be cancelled, and says so") {
    MailServer hop;
    std::atomic<bool> there{false}, over{false};
    hop.verdict([&](const Test::Mail&, const Recipient&) {
        there = true;
        comes([&] { return over.load(); });
        return Reply{250, "2.0.0", "OK"};
    });
    Told t(to(hop));
    t.queue->start();
    const auto id = t.queue->enqueue(Sender("a@x.test"), everybody({"b@y.test"}), letter());
    CHECK(comes([&] { return there.load(); }));
    CHECK(t.queue->item(id)->in_flight());
    CHECK(t.queue->cancel(id) == Cancelled::in_flight);
    over = true;
    CHECK(t.hears("sent"));
}

TEST_CASE("what is held waits for its release") {
    MailServer hop;
    Told t(to(hop));
    t.queue->start();
    const auto id = t.queue->enqueue(Sender("a@x.test"), everybody({"b@y.test"}), letter(), {.held = true});
    t.queue->enqueue(Sender("a@x.test"), everybody({"c@y.test"}), letter());
    CHECK(t.hears("sent c@y.test"));
    CHECK(t.queue->flush_all() == 0);
    CHECK(t.queue->item(id)->held);
    CHECK(t.queue->release(id));
    CHECK(t.hears("sent b@y.test"));
    CHECK(!t.queue->release(id));
    CHECK(!t.queue->hold("no such"));
}

TEST_CASE("a recipient that is refused for now is tried again, the others are not") {
    MailServer hop;
    hop.reply_to("RCPT TO:<busy@", {450, "4.2.1", "Busy"}, 2);
    Told t(to(hop));
    t.queue->start();
    t.queue->enqueue(Sender("a@x.test"), everybody({"one@y.test", "busy@y.test", "two@y.test"}), letter());
    CHECK(t.hears("sent busy@y.test"));
    CHECK(t.empty());
    CHECK(recipients_of(hop) == std::vector<std::string>{"busy@y.test", "one@y.test", "two@y.test"});
    CHECK(t.count("deferred busy@y.test 450") == 2);
    CHECK(t.count("deferred") == 2);
}

TEST_CASE("a recipient that is refused for good is told to the sender, and touches nobody else") {
    MailServer hop;
    hop.reply_to("RCPT TO:<none@", {550, "5.1.1", "No such user"});
    Told t(to(hop));
    t.queue->start();
    t.queue->enqueue(Sender("a@x.test"), everybody({"one@y.test", "none@y.test"}), letter());
    CHECK(t.hears("told a@x.test"));
    CHECK(t.hears("failed none@y.test 550"));
    const auto mails = hop.wait_for(2);
    CHECK(recipients_of(hop) == std::vector<std::string>{"a@x.test", "one@y.test"});
    for (const auto& mail : mails) {
        if (mail.to[0].str() == "one@y.test") continue;
        CHECK(mail.from.null());
        CHECK(mail.text.find("none@y.test") != std::string::npos);
        CHECK(mail.text.find("No such user") != std::string::npos);
        CHECK(mail.text.find("report-type=delivery-status") != std::string::npos);
    }
    CHECK(t.empty());
}

TEST_CASE("a mail to many that nobody takes is answered by a notice for each hundred") {
    MailServer hop;
    hop.reply_to("RCPT TO:<r", {550, "5.1.1", "No such user"});
    Told t(to(hop));
    std::vector<Recipient> all;
    for (int i = 0; i < 250; ++i) all.emplace_back("r" + std::to_string(i) + "@y.test");
    t.queue->enqueue(Sender("a@x.test"), all, letter());
    t.queue->start();
    CHECK(t.hears("failed r", 250));
    CHECK(t.empty());
    CHECK(t.hears("told a@x.test", 3));
    CHECK(t.count("told a@x.test") == 3);
}

TEST_CASE("whom a host finds too many for one mail, it gets in the next at once") {
    MailServer hop;
    hop.server().on<Event::Rcpt>([](Event::Rcpt& e) {
        if (e.client.TO.size() >= 10) e.reply = {452, "4.5.3", "Too many recipients"};
    });
    auto o = to(hop);
    o.schedule.first = o.schedule.longest = 1h;
    Told t(o);
    std::vector<Recipient> all;
    for (int i = 0; i < 35; ++i) all.emplace_back("r" + std::to_string(i) + "@y.test");
    t.queue->enqueue(Sender("a@x.test"), all, letter());
    t.queue->start();
    CHECK(hop.wait_for(4, 30s).size() == 4);
    CHECK(t.empty());
    CHECK(t.hears("sent", 35));
}

TEST_CASE("what can't be delivered from the null sender is dropped, and that is told") {
    MailServer hop;
    hop.reply_to("RCPT", {550, "5.1.1", "No such user"});
    Told t(to(hop));
    t.queue->start();
    t.queue->enqueue(Sender(""), everybody({"none@y.test"}), letter(), {.id = "report"});
    CHECK(t.hears("nobody to tell of report"));
    CHECK(t.empty());
    CHECK(hop.mails().empty());
}

TEST_CASE("who asked for no notice gets none") {
    MailServer hop;
    hop.reply_to("RCPT", {550, "5.1.1", "No such user"});
    Told t(to(hop));
    t.queue->start();
    auto all = everybody({"none@y.test"});
    all[0].notify.never = true;
    t.queue->enqueue(Sender("a@x.test"), all, letter(), {.id = "quiet"});
    CHECK(t.hears("nobody to tell of quiet"));
    CHECK(t.empty());
}

TEST_CASE("what is too old when a try fails is given back to its sender") {
    MailServer hop;
    hop.reply_to("RCPT TO:<busy@", {450, "4.2.1", "Busy"});
    auto o = to(hop);
    o.schedule.life = 1s;
    o.schedule.warn = 0s;
    Told t(o);
    t.queue->start();
    t.queue->enqueue(Sender("a@x.test"), everybody({"busy@y.test"}), letter(), {.time = queue_now() - 2s});
    CHECK(t.hears("expired busy@y.test 450"));
    CHECK(t.count("deferred") == 1);  // one failure is no proof: clocks jump
    CHECK(t.hears("told a@x.test"));
    hop.wait_for(1);
    CHECK(t.empty());
}

TEST_CASE("a sender is told of a delay once") {
    MailServer hop;
    hop.reply_to("RCPT TO:<busy@", {450, "4.2.1", "Busy"}, 4);
    auto o = to(hop);
    o.schedule.warn = 1s;
    Told t(o);
    t.queue->start();
    t.queue->enqueue(Sender("a@x.test"), everybody({"busy@y.test"}), letter(), {.time = queue_now() - 2s});
    CHECK(t.hears("sent busy@y.test"));
    CHECK(t.empty());
    CHECK(t.count("told a@x.test") == 1);
    CHECK(t.count("deferred") == 4);
}

TEST_CASE("success is told to who asked for it, where the next hop does not") {
    Options options;
    options.offer.dsn = false;
    options.hostname = "mail.test";
    MailServer hop(options);
    Told t(to(hop));
    t.queue->start();
    auto all = everybody({"one@y.test", "two@y.test"});
    all[0].notify.success = true;
    t.queue->enqueue(Sender("a@x.test"), all, letter());
    CHECK(t.hears("told a@x.test"));
    hop.wait_for(2);
    CHECK(t.empty());
    CHECK(t.count("told") == 1);
}

TEST_CASE("a store that has no room is 452 to the sender, who tries again") {
    MailServer hop;
    Told t(to(hop));
    std::atomic<int> failures{1};
    t.store->trouble = [&](std::string_view call) {
        if (call == "put" && failures-- > 0) throw StoreError("no room", {452, "4.3.1", "No room"});
    };
    t.queue->start();
    Setup setup{.listeners = [&](Server& s) { s.pipeline().add("queue", t.queue); }};
    dialogue(R"(
        S: 220
        C: EHLO a.test
        S: 250
        C: MAIL FROM:<joe@a.test>
        S: 250
        C: RCPT TO:<ann@b.test>
        S: 250
        C: DATA
        S: 354
        C: one
        C: .
        S: 452 4.3.1 No room
        C: MAIL FROM:<joe@a.test>
        S: 250
        C: RCPT TO:<ann@b.test>
        S: 250
        C: DATA
        S: 354
        C: two
        C: .
        S: 250 2.0.0 Queued as
        C: QUIT
        S: 221
    )",
             setup);
    const auto mails = hop.wait_for(1);
    CHECK(mails[0].text.ends_with("two\r\n"));
    CHECK(t.empty());
}

TEST_CASE("what is delivered is not delivered again when the store fails to record it for a while") {
    MailServer hop;
    Told t(to(hop));
    std::atomic<int> failures{3};
    t.store->trouble = [&](std::string_view call) {
        if (call == "record" && failures-- > 0) throw StoreError("disk", {451, "4.3.0", "disk"});
    };
    t.queue->start();
    t.queue->enqueue(Sender("a@x.test"), everybody({"b@y.test"}), letter());
    CHECK(t.hears("sent"));
    CHECK(t.empty());
    CHECK(hop.mails().size() == 1);
    CHECK(t.count("trouble") == 3);
}

TEST_CASE("a store that can't be asked for a while costs nothing but time") {
    MailServer hop;
    Told t(to(hop));
    std::atomic<int> failures{2};
    t.store->trouble = [&](std::string_view call) {
        if (call == "claim" && failures-- > 0) throw StoreError("disk", {451, "4.3.0", "disk"});
    };
    t.queue->start();
    t.queue->enqueue(Sender("a@x.test"), everybody({"b@y.test"}), letter());
    CHECK(t.hears("sent"));
    CHECK(t.count("trouble") == 2);
}

TEST_CASE("each domain goes its way: by name, below a name, by the router, else by the smart host") {
    MailServer exact, below, chosen, rest;
    auto o = to(rest);
    o.routes["y.test"].how.host = exact.address();
    o.routes[".y.test"].how.host = below.address();
    o.router = [&](const Sender&, const Recipient& r) -> std::optional<Route> {
        if (r.local != "list") return std::nullopt;
        Route route{.name = "lists"};
        route.how.host = chosen.address();
        return route;
    };
    Told t(o);
    t.queue->start();
    t.queue->enqueue(Sender("a@x.test"),
                     everybody({"a@Y.test", "b@deep.y.test", "list@y.test", "c@z.test", "postmaster"}), letter());
    CHECK(t.empty());
    CHECK(recipients_of(exact) == std::vector<std::string>{"a@Y.test"});
    CHECK(recipients_of(below) == std::vector<std::string>{"b@deep.y.test"});
    CHECK(recipients_of(chosen) == std::vector<std::string>{"list@y.test"});
    CHECK(recipients_of(rest) == std::vector<std::string>{"c@z.test", "postmaster"});
}

TEST_CASE("handlers come first, and one that fails is tried again like any destination") {
    MailServer bugs, rest;
    bugs.reply_to(".", {451, "4.3.0", "Later"}, 1);
    const auto handlers = std::make_shared<Handlers>();
    handlers->set({{"^bugs@", Relay::Options{.host = bugs.address()}},
                   {"^never@", [](Server::Client&, const std::vector<Recipient>&) {
                        return Reply{550, "", "no"};
                    }}});
    auto o = to(rest);
    o.router = Handlers::router(handlers);
    Told t(o);
    t.queue->start();
    t.queue->enqueue(Sender("a@x.test"), everybody({"bugs@y.test", "ann@y.test", "never@y.test"}), letter());
    CHECK(t.empty());
    CHECK(recipients_of(bugs) == std::vector<std::string>{"bugs@y.test"});
    CHECK(recipients_of(rest) == std::vector<std::string>{"ann@y.test", "never@y.test"});
    CHECK(t.hears("deferred bugs@y.test 451"));
}

TEST_CASE("a route that makes no sense is named, and changes nothing") {
    MailServer hop;
    auto o = to(hop);
    o.routes["y.test"].how.host = "lmtp:mx.test:25";
    CHECK_THROWS_AS(Told{o}, std::invalid_argument);
    Told t(to(hop));
    CHECK_THROWS_AS(t.queue->configure(o), std::invalid_argument);
    o = to(hop);
    o.maxrelay = 0;
    CHECK_THROWS_AS(Told{o}, std::invalid_argument);
    t.queue->start();
    t.queue->enqueue(Sender("a@x.test"), everybody({"b@y.test"}), letter());
    CHECK(t.hears("sent"));
}

TEST_CASE("a new route is good for mail that waits already") {
    MailServer hop;
    auto o = soon();
    Told t(o);
    t.queue->start();
    t.queue->enqueue(Sender("a@x.test"), everybody({"b@y.test"}), letter());
    CHECK(t.hears("deferred b@y.test 451"));
    t.queue->configure(to(hop));
    CHECK(t.hears("sent"));
}

TEST_CASE("recipients of one domain that a router sends one way share a transaction") {
    MailServer hop;
    auto o = soon();
    o.router = [&](const Sender&, const Recipient&) -> std::optional<Route> {
        return Route{"", {.host = hop.address()}};
    };
    Told t(o);
    t.queue->enqueue(Sender("a@x.test"), everybody({"b@y.test", "c@y.test", "d@y.test"}), letter());
    t.queue->start();
    CHECK(t.empty());
    REQUIRE(hop.mails().size() == 1);
    CHECK(hop.mails().front().to.size() == 3);
}

TEST_CASE("a router that throws makes mail wait") {
    MailServer hop;
    auto o = to(hop);
    std::atomic<int> throws{1};
    o.router = [&](const Sender&, const Recipient& to) -> std::optional<Route> {
        if (to.local == "b" && throws-- > 0) throw std::runtime_error("no idea");
        return std::nullopt;
    };
    Told t(o);
    t.queue->start();
    t.queue->enqueue(Sender("a@x.test"), everybody({"b@y.test"}), letter());
    CHECK(t.hears("deferred b@y.test 451"));
    CHECK(t.hears("trouble router: no idea"));
    CHECK(t.hears("sent"));
}

TEST_CASE("stop() gives back what has not begun, and start() goes on with it") {
    MailServer hop;
    hop.delay(".", 50ms);
    auto o = to(hop);
    o.maxrelay = 2;
    Told t(o);
    t.queue->start();
    for (int i = 0; i < 20; ++i) t.queue->enqueue(Sender("a@x.test"), everybody({"b@y.test"}), letter());
    CHECK(t.hears("sent"));
    t.queue->stop();
    const auto stats = t.queue->stats();
    CHECK(stats.in_flight == 0);
    CHECK(stats.messages + hop.mails().size() == 20);
    t.queue->start();
    hop.wait_for(20);
    CHECK(t.empty());
    CHECK(hop.mails().size() == 20);
}

TEST_CASE("stop() cuts off what takes longer than its drain, and it is delivered later") {
    MailServer hop;
    hop.delay("RCPT", 20s, 1);
    Told t(to(hop));
    t.queue->start();
    t.queue->enqueue(Sender("a@x.test"), everybody({"b@y.test"}), letter());
    CHECK(comes([&] { return t.queue->stats().in_flight == 1; }));
    t.queue->stop(0s);
    CHECK(t.queue->stats().in_flight == 0);
    CHECK(t.queue->stats().messages == 1);
    t.queue->start();
    CHECK(t.hears("sent"));
}

TEST_CASE("a Relay that did not deliver to everybody leaves the rest to the queue") {
    MailServer hop;
    hop.reply_to("RCPT TO:<busy@", {450, "4.2.1", "Busy"}, 1);
    hop.reply_to("RCPT TO:<none@", {550, "5.1.1", "No such user"});
    Told t(to(hop));
    Setup setup;
    setup.handler = [&](Server::Client& client) {
        const Relay relay(client.FROM, client.TO, client.MSG, {.host = hop.address(), .partial = true});
        t.queue->rest(client, relay);
    };
    dialogue(R"(
        S: 220
        C: EHLO a.test
        S: 250
        C: MAIL FROM:<joe@a.test>
        S: 250
        C: RCPT TO:<ann@b.test>
        S: 250
        C: RCPT TO:<busy@b.test>
        S: 250
        C: RCPT TO:<none@b.test>
        S: 250
        C: DATA
        S: 354
        C: Subject: x
        C: .
        S: 250 2.0.0 Queued as
        C: QUIT
        S: 221
    )",
             setup);
    t.queue->start();
    CHECK(t.empty());
    hop.wait_for(3);
    CHECK(recipients_of(hop) == std::vector<std::string>{"ann@b.test", "busy@b.test", "joe@a.test"});
}

TEST_CASE("the pipelines of its servers hear what becomes of mail, until it leaves them") {
    MailServer hop;
    Told t(to(hop));
    std::atomic<int> sent{0};
    Pipeline pipeline;
    pipeline.on<Event::Sent>([&](Event::Sent&) { ++sent; });
    pipeline.on<Event::Sent>([&](Event::Sent&) { throw std::runtime_error("listener"); });
    pipeline.add("queue", t.queue);
    t.queue->start();
    t.queue->enqueue(Sender("a@x.test"), everybody({"b@y.test"}), letter());
    CHECK(comes([&] { return sent == 1; }));
    pipeline.remove("queue");
    t.queue->enqueue(Sender("a@x.test"), everybody({"c@y.test"}), letter());
    CHECK(t.hears("sent c@y.test"));
    CHECK(sent == 1);
}

TEST_CASE("a listener may take the queue out of the pipeline that tells it") {
    MailServer hop;
    Told t(to(hop));
    std::atomic<int> sent{0};
    Pipeline pipeline;
    pipeline.on<Event::Sent>([&](Event::Sent&) {
        ++sent;
        pipeline.remove("queue");
    });
    pipeline.add("queue", t.queue);
    t.queue->start();
    t.queue->enqueue(Sender("a@x.test"), everybody({"b@y.test"}), letter());
    t.queue->enqueue(Sender("a@x.test"), everybody({"b@y.test"}), letter());
    CHECK(t.hears("sent", 2));
    CHECK(sent >= 1);
    CHECK(pipeline.order().empty());
    t.queue->stop();
}

TEST_CASE("what a plugin in front has taken or refused is left alone") {
    MailServer hop;
    Told t(to(hop));
    t.queue->start();
    auto taker = std::make_shared<Plugin>();
    taker->on<Event::Arrived>([](Event::Arrived& e) { e.client.accept(e.client.TO.at(0)); });
    Setup setup{.listeners = [&](Server& s) {
        s.pipeline().add("taker", taker);
        s.pipeline().add("queue", t.queue);
    }};
    dialogue(R"(
        S: 220
        C: HELO a.test
        S: 250
        C: MAIL FROM:<joe@a.test>
        S: 250
        C: RCPT TO:<ann@b.test>
        S: 250
        C: RCPT TO:<bob@b.test>
        S: 250
        C: DATA
        S: 354
        C: Subject: x
        C: .
        S: 250 2.0.0
        C: QUIT
        S: 221
    )",
             setup);
    CHECK(t.empty());
    CHECK(recipients_of(hop) == std::vector<std::string>{"bob@b.test"});
}

TEST_CASE("two queues on one store: one delivers, and the other goes on when it ends") {
    MailServer hop;
    const auto place = std::make_shared<MemoryPlace>();
    auto first = std::make_unique<Told>(to(hop), std::make_shared<MemoryStore>(place));
    Told second(to(hop), std::make_shared<MemoryStore>(place));
    first->queue->start();
    first->queue->enqueue(Sender("a@x.test"), everybody({"b@y.test"}), letter());
    CHECK(first->hears("sent"));
    second.queue->start();
    second.queue->enqueue(Sender("a@x.test"), everybody({"c@y.test"}), letter());
    CHECK(first->hears("sent c@y.test"));
    first.reset();
    second.queue->enqueue(Sender("a@x.test"), everybody({"d@y.test"}), letter());
    CHECK(second.hears("sent d@y.test"));
    CHECK(hop.mails().size() == 3);
}
