// Queue -- mail that is kept until it is delivered, bounced or cancelled.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "../Server/Options.hpp"
#include "../Server/Pipeline.hpp"
#include "../Server/Plugin.hpp"
#include "QueueEvents.hpp"
#include "Relay.hpp"
#include "Route.hpp"
#include "Schedule.hpp"
#include "Store.hpp"

namespace Net::SMTP {

// A plugin: mail that arrives is put into a store and taken; then it is delivered, now or later.
//
//     auto queue = std::make_shared<Queue>(std::make_shared<SqliteStore>("/var/spool/app"), {.host = ...});
//     Server server({"127.0.0.1:25"}, queue->apply(Options()));
//     server.pipeline().add("queue", queue);
//     queue->start();
//     server.run([](Server::Client&) {});
//
// At Event::Arrived it takes client.MSG for everybody in client.TO, once it is on stable storage; the sender then hears
// 250 with the id of the queue. What a plugin in front has refused or taken is left alone. What can't be stored is 452
// or 451, and the session goes on.
//
// Each recipient is delivered for itself: what others have heard does not touch it. Who is named twice gets one copy,
// as the first RCPT has asked for it. All members may be called by any thread; enqueue() also in a forked child, which
// delivers nothing.
class Queue final : public Plugin {
public:
    struct Options {
        // ---- where mail goes: the first that knows ----
        Router router{};
        // By domain, in small letters; ".example.org" is for what is below it, the longest one first.
        std::map<std::string, Route> routes{};
        // All others: a smart host, or MX (see Relay::Options); without any they wait (451 4.4.4).
        Relay::Options otherwise{};

        // ---- how much at once ----
        std::size_t maxrelay = 100;  // deliveries at once; connections too, those kept for the next mail among them
        std::size_t per_destination = 20;  // of them to one route or domain, and never over a quarter of maxrelay
                                           // (but one)
        std::size_t mails_per_session = 100;
        // A host that could not be connected to is not tried again by anybody for so long; zero: it is.
        std::chrono::seconds avoid{30};

        // A message that was received so many times before is 554 5.4.6 (RFC 5321 6.3), see hops(); 0: any is taken.
        std::size_t max_hops = usual_max_hops;

        Schedule schedule{};
        std::string hostname{};  // in Received, EHLO, and of notices; "": the system's
        bool paused = false;     // from the start; whatever the store says
        bool notices = true;     // bounces and the like; without them only the events tell
        // A session of a delivery that has said nothing for so long has stalled: others of that destination wait for
        // it.
        std::chrono::seconds stall{5};
    };

    // std::invalid_argument names an option that makes no sense.
    Queue(std::shared_ptr<Store> store, Options options);
    // As stop() with no time to wait.
    ~Queue() override;

    // What a server whose mail comes here should have: the store's place for bodies; DSN and SMTPUTF8, whose promises
    // the queue keeps.
    SMTP::Options apply(SMTP::Options options) const;

    // From now on these; deliveries that are under way end as they began, and so do those that were given out. As the
    // constructor.
    void configure(Options options);

    // Delivers from now on, in threads of its own; again after stop(). std::system_error. Not in a forked child:
    // std::logic_error.
    void start();
    // Begins no more deliveries, and returns when those under way have ended, but after `drain` cuts them off.
    void stop(std::chrono::seconds drain = std::chrono::seconds(30));

    struct Choice {
        std::string id{};                 // "": a new one
        std::optional<QueueTime> time{};  // when it came; else now
        bool held = false;
    };
    // Puts a message of the program's own into the queue; the id, once it is on stable storage. `from` may be null. A
    // message that has a Trace gets a Received field if it is due. StoreError; std::invalid_argument for no recipients,
    // an id that is taken or makes no sense, a message that went into a sink.
    std::string enqueue(const Sender& from, const std::vector<Recipient>& to, const Message& message,
                        const Choice& choice);
    std::string enqueue(const Sender& from, const std::vector<Recipient>& to, const Message& message);
    // Takes over from a Relay that did not deliver to everybody: who has it is done, who was refused for now goes into
    // the queue, who was refused for good is bounced; and the message is taken for all of them. The sender hears 250.
    // StoreError, and then what the Relay has said stands.
    void rest(Server::Client& client, const Relay& relay);

    Cancelled cancel(const std::string& id);
    bool hold(const std::string& id);
    bool release(const std::string& id);
    // As the Store's; and what is remembered of hosts that were down is forgotten.
    std::uint64_t flush(const std::string& id);
    std::uint64_t flush_domain(const std::string& domain);
    std::uint64_t flush_all();

    // Deliveries under way go on, others wait. `keep`: also after a restart, and for all who share the store; they
    // notice within two seconds.
    void pause(bool keep = false);
    void resume(bool keep = false);
    bool paused() const;

    // A page of what is there, see Store::items().
    std::vector<QueueItem> items(std::int64_t after = 0, std::size_t limit = 1000);
    std::optional<QueueItem> item(const std::string& id);
    QueueStats stats();
    Store& store() const;

    // Who hears the queue's events besides the pipelines that it is a plugin of.
    Pipeline& pipeline() const;
    template <class Kind, class Listener>
    std::uint64_t on(Listener listener) {
        return pipeline().on<Kind>(std::move(listener));
    }

    bool attached(Pipeline& pipeline, const std::string& name) override;
    void detached(Pipeline& pipeline, const std::string& name) override;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace Net::SMTP
