// relay_mx -- where mail goes by MX: which hosts are asked, in which order, and what the sender hears when none takes
// it.
#include <Net/SMTP/Server/Test/FakeResolver.hpp>
#include <Net/SMTP/Server/Test/ScriptedServer.hpp>
#include <map>

#include "dialogue.hpp"
#include "next_hop.hpp"

using namespace test;
using Net::SMTP::Test::Act;
using Net::SMTP::Test::FakeResolver;
using Net::SMTP::Test::ScriptedServer;

namespace {

const Message text("Subject: x\r\n\r\nhello\r\n");

// Hosts on 127.0.0.2, 127.0.0.3, ... which share one port, and a DNS.
class Neighbours {
public:
    explicit Neighbours(std::size_t hosts) {
        for (int attempt = 0;; ++attempt) try {
                hosts_.clear();
                for (std::size_t i = 0; i < hosts; ++i) {
                    ScriptedServer::Options o;
                    o.listen = ip(i) + ':' + std::to_string(i == 0 ? 0 : hosts_[0]->port());
                    hosts_.push_back(std::make_unique<ScriptedServer>(o));
                }
                break;
            } catch (const std::system_error&) {  // somebody else has the port there
                if (attempt == 20) throw;
            }
        port = hosts > 0 ? hosts_[0]->port() : 1;
        dns = std::make_shared<FakeResolver>();
    }
    static std::string ip(std::size_t i) { return "127.0.0." + std::to_string(i + 2); }
    ScriptedServer& operator[](std::size_t i) { return *hosts_.at(i); }

    Relay::Options options() const {
        Relay::Options o;
        o.resolver = dns;
        o.mx_port = port;
        o.hostname = "relay.test";
        o.total = 15s;
        o.patience = {2s, 2s, 2s, 2s, 2s, 2s, 2s, 2s, 2s, 1s};
        return o;
    }
    // How many whole mails each host has.
    std::vector<std::size_t> mails() const {
        std::vector<std::size_t> all;
        for (auto& host : hosts_) {
            std::size_t n = 0;
            for (const auto& c : host->conversations())
                for (const auto& t : c.texts) n += t.complete;
            all.push_back(n);
        }
        return all;
    }

    std::shared_ptr<FakeResolver> dns;
    std::uint16_t port = 0;

private:
    std::vector<std::unique_ptr<ScriptedServer>> hosts_;
};

using Counts = std::vector<std::size_t>;

// What one recipient hears.
Relay::Result to(const std::string& address, const Relay::Options& o) {
    const Relay relay(Sender("a@b.example"), {Recipient(address)}, text, o);
    return relay.results().at(0);
}

}  // namespace

TEST_CASE("the best host gets the mail, and no other is asked") {
    Neighbours net(3);
    net.dns->add("d.example", "MX 20 second.example");
    net.dns->add("d.example", "MX 10 first.example");
    net.dns->add("first.example", "A 127.0.0.3");
    net.dns->add("second.example", "A 127.0.0.2");
    const auto result = to("c@d.example", net.options());
    CHECK(result.reply.str().starts_with("250"));
    CHECK(result.host == "first.example[127.0.0.3]:" + std::to_string(net.port));
    CHECK(net.mails() == Counts{0, 1, 0});
    CHECK(net.dns->asked("second.example") == 0);
}

TEST_CASE("a host that can't be reached, is closing or says later is followed by the next") {
    const std::map<std::string, Act> troubles{
        {"", Act(Reply{421, "4.3.2", "not now"}).then(Act::close())},
        {"EHLO", Act::close()},
        {"MAIL", Act(Reply{451, "4.7.1", "later"})},
        {"RCPT", Act(Reply{450, "4.2.1", "greylisted"})},
        {"DATA", Act(Reply{451, "4.3.0", "no room"})},
        {".", Act(Reply{451, "4.3.0", "not yet"})},
    };
    for (const bool partial : {false, true})
        for (const auto& trouble : troubles) {
            CAPTURE(trouble.first);
            CAPTURE(partial);
            Neighbours net(2);
            net.dns->add("d.example", "MX 10 gone.example");
            net.dns->add("gone.example", "A 127.0.0.99");
            net.dns->add("d.example", "MX 20 bad.example");
            net.dns->add("bad.example", "A 127.0.0.2");
            net.dns->add("d.example", "MX 30 good.example");
            net.dns->add("good.example", "A 127.0.0.3");
            net[0].on(trouble.first, trouble.second);
            auto o = net.options();
            o.chunking = false;
            o.partial = partial;
            const auto result = to("c@d.example", o);
            CHECK(result.delivered());
            CHECK(result.host.starts_with("good.example["));
            const auto mails = net.mails();
            CHECK(mails[1] == 1);
        }
}

TEST_CASE("a host that says never ends it, and one that lost the answer is not followed by another") {
    for (const std::string where : {"MAIL", "RCPT", "DATA", "."}) {
        CAPTURE(where);
        Neighbours net(2);
        net.dns->add("d.example", "MX 10 first.example");
        net.dns->add("first.example", "A 127.0.0.2");
        net.dns->add("d.example", "MX 20 second.example");
        net.dns->add("second.example", "A 127.0.0.3");
        net[0].on(where, Act(Reply{550, "5.7.1", "never"}));
        if (where == "MAIL" || where == "RCPT") net[0].on("DATA", Act(Reply{503, "5.5.1", "no"}));
        auto o = net.options();
        o.chunking = false;
        CHECK(to("c@d.example", o).reply.str() == "550 5.7.1 never");
        CHECK(net[1].conversations().empty());
    }
    Neighbours net(2);
    net.dns->add("d.example", "MX 10 first.example");
    net.dns->add("first.example", "A 127.0.0.2");
    net.dns->add("d.example", "MX 20 second.example");
    net.dns->add("second.example", "A 127.0.0.3");
    net[0].on(".", Act::close());
    const auto result = to("c@d.example", net.options());
    CHECK(result.reply.str().starts_with("451 4.4.2"));
    CHECK(result.in_doubt);
    CHECK(net[1].conversations().empty());
}

TEST_CASE("when all hosts fail, a host's own words outlive those about who could not be reached") {
    Neighbours net(1);
    net.dns->add("d.example", "MX 10 full.example");
    net.dns->add("full.example", "A 127.0.0.2");
    net.dns->add("d.example", "MX 20 gone.example");
    net.dns->add("gone.example", "A 127.0.0.99");
    net[0].reply_to("RCPT", {452, "4.2.2", "mailbox full"});
    const auto result = to("c@d.example", net.options());
    CHECK(result.reply.str() == "452 4.2.2 mailbox full");
    CHECK(result.host.starts_with("full.example["));

    net.dns->add("e.example", "MX 10 gone.example");
    const auto gone = to("c@e.example", net.options());
    CHECK(gone.reply.str().starts_with("451 4.4.1"));
    CHECK(gone.host.starts_with("gone.example["));
}

TEST_CASE("hosts of equal preference share the mail") {
    Neighbours net(2);
    net.dns->add("d.example", "MX 10 one.example");
    net.dns->add("d.example", "MX 10 two.example");
    net.dns->add("one.example", "A 127.0.0.2");
    net.dns->add("two.example", "A 127.0.0.3");
    for (int i = 0; i < 40; ++i) CHECK(to("c@d.example", net.options()).delivered());
    const auto mails = net.mails();
    CHECK(mails[0] + mails[1] == 40);
    CHECK(mails[0] > 0);  // both: by chance not in 1 of 10^12 runs
    CHECK(mails[1] > 0);
}

TEST_CASE("every address of a host is tried, and a host without any is passed over") {
    Neighbours net(1);
    net.dns->add("d.example", "MX 10 none.example");
    net.dns->add("d.example", "MX 20 many.example");
    net.dns->add("none.example", "TXT x");
    net.dns->add("many.example", "AAAA 2001:db8::1");  // no route to it, or nobody there
    net.dns->add("many.example", "A 127.0.0.99");
    net.dns->add("many.example", "A 127.0.0.2");
    const auto result = to("c@d.example", net.options());
    CHECK(result.delivered());
    CHECK(result.host.starts_with("many.example[127.0.0.2]"));
}

TEST_CASE("a domain without MX is its own host, by A, by AAAA and by CNAME") {
    Neighbours net(1);
    net.dns->add("a.example", "A 127.0.0.2");
    net.dns->add("alias.example", "CNAME a.example");
    net.dns->add("mxalias.example", "CNAME d.example");
    net.dns->add("d.example", "MX 10 alias.example");
    for (const std::string domain : {"a.example", "alias.example", "mxalias.example", "d.example"}) {
        CAPTURE(domain);
        CHECK(to("c@" + domain, net.options()).delivered());
    }
    CHECK(net.mails() == Counts{4});

    Server v6(Addresses{"[::1]:0"});
    Background hop([&] {
        Server::Client client(v6.accept());
        while (client.process()) client.accept();
    });
    net.dns->add("v6.example", "AAAA ::1");
    auto o = net.options();
    o.mx_port = v6.port();
    const auto result = to("c@v6.example", o);
    CHECK(result.delivered());
    CHECK(result.host == "v6.example[::1]:" + std::to_string(v6.port()));
    hop.join();
}

TEST_CASE("what the DNS says about a domain is what the sender hears") {
    Neighbours net(0);
    net.dns->add("null.example", "MX 0 .");
    net.dns->add("nothing.example", "TXT nothing");
    net.dns->add("lost.example", "MX 10 nowhere.example");
    net.dns->add("lost.example", "MX 20 nothing.example");
    net.dns->fail("servfail.example");
    net.dns->add("half.example", "MX 10 servfail.example");
    net.dns->stall("dead.example");
    const std::pair<const char*, const char*> rows[] = {
        {"null.example", "556 5.1.10"}, {"unknown.example", "550 5.1.2"},  {"nothing.example", "550 5.1.2"},
        {"lost.example", "550 5.4.4"},  {"servfail.example", "451 4.4.3"}, {"half.example", "451 4.4.3"},
        {"[127.0.0.1.5]", "550 5.1.2"}, {"[x-tag:y]", "550 5.1.2"},
    };
    for (const auto& row : rows) {
        CAPTURE(row.first);
        Recipient recipient;
        recipient.local = "c";
        recipient.domain = row.first;
        const Relay relay(Sender("a@b"), {recipient}, text, net.options());
        CHECK(relay.results()[0].reply.str().starts_with(row.second));
        CHECK(relay.results()[0].host == "");
    }
    Recipient postmaster("postmaster");
    CHECK(Relay(Sender("a@b"), {postmaster}, text, net.options()).results()[0].reply.str().starts_with("550 5.1.2"));

    const auto began = Clock::now();
    CHECK(to("c@dead.example", net.options()).reply.str().starts_with("451 4.4.3"));
    CHECK(Clock::now() - began < 5s);  // 1 s is the patience with a look-up
}

TEST_CASE("a null MX among others means nothing") {
    Neighbours net(1);
    net.dns->add("d.example", "MX 0 .");
    net.dns->add("d.example", "MX 10 mx.example");
    net.dns->add("mx.example", "A 127.0.0.2");
    CHECK(to("c@d.example", net.options()).delivered());
}

TEST_CASE("an address literal is taken at its word") {
    Neighbours net(1);
    const auto result = to("c@[127.0.0.2]", net.options());
    CHECK(result.delivered());
    CHECK(result.host == "127.0.0.2:" + std::to_string(net.port));
    CHECK(net.dns->asked() == 0);
    CHECK(to("c@[IPv6:::1]", net.options()).host == "[::1]:" + std::to_string(net.port));
}

TEST_CASE("mail does not go to ourselves, nor to hosts that are no better") {
    Neighbours net(2);
    net.dns->add("d.example", "MX 10 best.example");
    net.dns->add("d.example", "MX 20 relay.TEST");
    net.dns->add("d.example", "MX 30 worse.example");
    net.dns->add("best.example", "A 127.0.0.99");
    net.dns->add("worse.example", "A 127.0.0.2");
    CHECK(to("c@d.example", net.options()).reply.str().starts_with("451 4.4.1"));
    CHECK(net.mails() == Counts{0, 0});

    net.dns->add("ours.example", "MX 10 relay.test");
    CHECK(to("c@ours.example", net.options()).reply.str().starts_with("554 5.4.6"));

    // By its address: the one the message came in at.
    Server server(Addresses{"127.0.0.1:0"});
    net.dns->add("loop.example", "A 127.0.0.1");
    auto o = net.options();
    o.mx_port = server.port();
    std::vector<Relay::Result> results;
    Background session([&] {
        Server::Client client(server.accept());
        while (client.process()) results = Relay(client.FROM, client.TO, client.MSG, o).results();
    });
    auto wire = dial(server);
    play(wire, std::string("S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@loop.example>\nS: "
                           "250\nC: DATA\nS: 354\nC: .\nS: 554 5.4.6\nC: QUIT\nS: 221"));
    session.join();
    CHECK(results.at(0).host == "");
}

TEST_CASE("recipients of one domain travel in one transaction, each domain on its own") {
    Neighbours net(2);
    net.dns->add("d.example", "A 127.0.0.2");
    net.dns->add("e.example", "A 127.0.0.3");
    const Relay relay(Sender("a@b"), recipients({"one@d.example", "x@e.example", "two@D.EXAMPLE"}), text,
                      net.options());
    CHECK(relay.delivered());
    CHECK(net.mails() == Counts{1, 1});
    const auto first = net[0].conversations();
    REQUIRE(first.size() == 1);
    CHECK(first[0].said("RCPT TO:<one@d.example>"));
    CHECK(first[0].said("RCPT TO:<two@D.EXAMPLE>"));
    CHECK(!first[0].said("RCPT TO:<x@"));
}

TEST_CASE("all or nothing holds over several domains: everybody is asked before anybody gets it") {
    Neighbours net(2);
    net.dns->add("d.example", "A 127.0.0.2");
    net.dns->add("e.example", "A 127.0.0.3");
    net[1].reply_to("RCPT TO:<bad@", {550, "5.1.1", "no such user"});
    const Relay relay(Sender("a@b"), recipients({"one@d.example", "bad@e.example", "x@e.example"}), text,
                      net.options());
    CHECK(!relay.delivered());
    for (const auto& r : relay.results()) {
        CHECK(r.reply.str() == "550 5.1.1 no such user");
        CHECK(r.host.starts_with("e.example["));
        CHECK(r.held_back == (r.recipient.local != "bad"));
    }
    CHECK(net.mails() == Counts{0, 0});

    auto o = net.options();
    o.partial = true;
    const Relay some(Sender("a@b"), recipients({"one@d.example", "bad@e.example", "x@e.example"}), text, o);
    CHECK(some.results()[0].delivered());
    CHECK(some.results()[1].reply.str() == "550 5.1.1 no such user");
    CHECK(some.results()[2].delivered());
    CHECK(net.mails() == Counts{1, 1});
}

TEST_CASE("with partial each domain and each recipient fares for itself") {
    Neighbours net(2);
    net.dns->add("null.example", "MX 0 .");
    net.dns->fail("servfail.example");
    net.dns->add("gone.example", "A 127.0.0.99");
    net.dns->add("d.example", "MX 10 first.example");
    net.dns->add("d.example", "MX 20 second.example");
    net.dns->add("first.example", "A 127.0.0.2");
    net.dns->add("second.example", "A 127.0.0.3");
    net[0].reply_to("RCPT TO:<never@", {550, "5.1.1", "no such user"});
    net[0].reply_to("RCPT TO:<later@", {450, "4.2.1", "greylisted"});
    auto o = net.options();
    o.partial = true;
    const Relay relay(Sender("a@b"),
                      recipients({"one@d.example", "x@unknown.example", "never@d.example", "x@null.example",
                                  "later@d.example", "x@servfail.example", "two@d.example", "x@gone.example"}),
                      text, o);
    const char* expected[] = {"250",       "550 5.1.2", "550 5.1.1", "556 5.1.10",
                              "450 4.2.1", "451 4.4.3", "250",       "451 4.4.1"};
    for (std::size_t i = 0; i < 8; ++i) {
        CHECK(relay.results()[i].reply.str().starts_with(expected[i]));
        CHECK_FALSE(relay.results()[i].held_back);
    }
    // Who was put off is not asked about elsewhere, where others have it here.
    CHECK(net.mails() == Counts{1, 0});
    CHECK(net[1].conversations().empty());
}

TEST_CASE(
    "with partial the next host is asked where the first puts everybody off, and not where it refuses one for good") {
    for (const bool never : {false, true}) {
        CAPTURE(never);
        Neighbours net(2);
        net.dns->add("d.example", "MX 10 first.example");
        net.dns->add("d.example", "MX 20 second.example");
        net.dns->add("first.example", "A 127.0.0.2");
        net.dns->add("second.example", "A 127.0.0.3");
        net[0].reply_to("RCPT TO:<one@", {450, "4.2.1", "greylisted"});
        net[0].reply_to("RCPT TO:<two@", never ? Reply{550, "5.1.1", "nobody"} : Reply{451, "4.3.0", "not now"});
        auto o = net.options();
        o.partial = true;
        const Relay relay(Sender("a@b"), recipients({"one@d.example", "two@d.example"}), text, o);
        CHECK(relay.delivered() == !never);
        CHECK(net.mails() == Counts{0, never ? 0u : 1u});
        if (never) CHECK(relay.results()[0].reply.str() == "450 4.2.1 greylisted");
        if (never) CHECK(relay.results()[1].reply.str() == "550 5.1.1 nobody");
    }
}

TEST_CASE("what can only be mixed after the text is 451 to a sender who hears one answer, and an event") {
    Neighbours net(2);
    net.dns->add("d.example", "A 127.0.0.2");
    net.dns->add("e.example", "A 127.0.0.3");
    net[1].reply_to(".", {554, "5.6.0", "not this text"});
    auto o = net.options();
    Setup setup;
    setup.listeners = [](Server&) {};
    std::vector<Relay::Result> results;
    setup.handler = [&](Server::Client& c) { results = Relay(c.FROM, c.TO, c.MSG, o).results(); };
    const auto played = dialogue(R"(
        S: 220
        C: EHLO me
        S: 250
        C: MAIL FROM:<a@b>
        S: 250
        C: RCPT TO:<one@d.example>
        S: 250
        C: RCPT TO:<two@e.example>
        S: 250
        C: DATA
        S: 354
        C: .
        S: 451 4.6.0 not this text
        C: QUIT
        S: 221
    )",
                                 setup);
    REQUIRE(results.size() == 2);
    CHECK(results[0].delivered());
    CHECK(results[1].reply.str() == "554 5.6.0 not this text");
    CHECK(played.troubles.size() == 1);
}

TEST_CASE("with at_rcpt each recipient hears its own host, and one domain's refusal is not another's") {
    Neighbours net(2);
    net.dns->add("d.example", "A 127.0.0.2");
    net.dns->add("e.example", "MX 10 gone.example");
    net.dns->add("gone.example", "A 127.0.0.99");
    net.dns->add("e.example", "MX 20 mx.example");
    net.dns->add("mx.example", "A 127.0.0.3");
    net[1].reply_to("RCPT TO:<bad@", {550, "5.1.1", "no such user"});
    auto o = net.options();
    o.at_rcpt = true;
    o.max_domains = 3;
    const auto setup = relaying(o);
    dialogue(R"(
        S: 220
        C: EHLO me
        S: 250
        C: MAIL FROM:<a@b>
        S: 250
        C: RCPT TO:<one@d.example>
        S: 250
        C: RCPT TO:<bad@e.example>
        S: 550 5.1.1 no such user
        C: RCPT TO:<good@e.example>
        S: 250
        C: RCPT TO:<x@unknown.example>
        S: 550 5.1.2
        C: RCPT TO:<x@fourth.example>
        S: 452 4.5.3
        C: RCPT TO:<two@d.example>
        S: 250
        C: DATA
        S: 354
        C: hello
        C: .
        S: 250
        C: QUIT
        S: 221
    )",
             setup);
    CHECK(net.mails() == Counts{1, 1});
    CHECK(net[0].conversations().size() == 1);
    CHECK(net[1].conversations().size() == 1);
}

TEST_CASE("more domains than max_domains are for another transaction") {
    Neighbours net(1);
    net.dns->add("d.example", "A 127.0.0.2");
    net.dns->add("e.example", "A 127.0.0.2");
    auto o = net.options();
    o.max_domains = 1;
    const Relay relay(Sender("a@b"), recipients({"x@d.example", "x@e.example"}), text, o);
    for (const auto& r : relay.results()) CHECK(r.reply.str().starts_with("452 4.5.3"));
    CHECK(net.mails() == Counts{0});
    const auto setup = relaying(o);
    dialogue(
        "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<x@d.example>\nS: 250\nC: RCPT "
        "TO:<x@e.example>\nS: 452 4.5.3\nC: RCPT TO:<y@D.example>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 250\nC: QUIT\nS: "
        "221",
        setup);
    CHECK(net.mails() == Counts{1});
}

TEST_CASE("the total is kept over all hosts") {
    Neighbours net(3);
    for (std::size_t i = 0; i < 3; ++i) {
        const auto host = "mx" + std::to_string(i) + ".example";
        net.dns->add("d.example", "MX 10 " + host);
        net.dns->add(host, "A " + Neighbours::ip(i));
        net[i].on("MAIL", Act::stall());
    }
    auto o = net.options();
    o.total = 3s;
    o.patience = {10s, 10s, 10s, 2s, 10s, 10s, 10s, 10s, 1s, 10s};
    const auto began = Clock::now();
    CHECK(to("c@d.example", o).reply.temporary());
    CHECK(Clock::now() - began < 6s);
}

TEST_CASE("the drain of the server ends a relay's look-up and its connecting") {
    Neighbours net(0);
    net.dns->stall("dead.example");
    auto o = net.options();
    o.total = 100s;
    o.patience.lookup = 100s;
    Server server(Addresses{"127.0.0.1:0"}, brief());
    std::promise<void> relaying;
    Background running([&] {
        server.run(
            [&](Server::Client& c) {
                relaying.set_value();
                Relay(c.FROM, c.TO, c.MSG, o);
            },
            {.drain = 1s});
    });
    auto wire = dial(server);
    play(wire,
         "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@dead.example>\nS: 250\nC: DATA\nS: "
         "354\nC: .");
    relaying.get_future().wait_for(patience);
    server.stop();
    CHECK_NOTHROW(running.join(10s));
}

TEST_CASE("a smart host's name is the resolver's, where there is one, with all its addresses") {
    Neighbours net(1);
    net.dns->add("smart.example", "A 127.0.0.99");
    net.dns->add("smart.example", "A 127.0.0.2");
    auto o = net.options();
    o.host = "smart.example:" + std::to_string(net.port);
    const auto result = to("c@anywhere.example", o);
    CHECK(result.delivered());
    CHECK(result.host.starts_with("smart.example[127.0.0.2]"));
    o.host = "nowhere.example";
    CHECK(to("c@anywhere.example", o).reply.str().starts_with("451 4.4.4"));
    net.dns->fail("unsure.example");
    o.host = "unsure.example";
    CHECK(to("c@anywhere.example", o).reply.str().starts_with("451 4.4.3"));
}

TEST_CASE(
    "with at_rcpt a recipient who is refused for now is asked about at the next host; the others too, if it helped") {
    for (const bool helps : {true, false}) {
        CAPTURE(helps);
        Neighbours net(3);
        net.dns->add("d.example", "MX 10 first.example");
        net.dns->add("first.example", "A 127.0.0.2");
        net.dns->add("d.example", "MX 20 second.example");
        net.dns->add("second.example", "A 127.0.0.3");
        net.dns->add("d.example", "MX 30 third.example");
        net.dns->add("third.example", "A 127.0.0.4");
        net[0].reply_to("RCPT TO:<one@", {450, "4.2.1", "greylisted"});
        net[1].reply_to("MAIL", {451, "4.3.0", "not now"});
        if (!helps) net[2].reply_to("RCPT TO:<one@", {550, "5.7.1", "never here"});
        auto o = net.options();
        o.at_rcpt = true;
        o.sessions = std::make_shared<SessionCache>();
        const auto setup = relaying(o);
        dialogue(
            std::string("S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<one@d.example>\nS: ") +
                (helps ? "250" : "450 4.2.1 greylisted") +
                "\nC: RCPT TO:<two@d.example>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 250\nC: QUIT\nS: 221",
            setup);
        CHECK(net.mails() == (helps ? Counts{0, 0, 1} : Counts{1, 0, 0}));
        for (std::size_t i : {0, 1, 2}) CHECK(net[i].conversations().size() == 1);
    }
}
