// queue -- keeps mail on disk and delivers it, now or later, to a smart host; what can't be delivered bounces.
#include <Net/SMTP/Relay/Queue.hpp>
#include <Net/SMTP/Relay/SqliteStore.hpp>
#include <Net/SMTP/Server.hpp>

#include "arguments.hpp"

using namespace Net::SMTP;

int main(int argc, char** argv) try {
    const Arguments given(argc, argv, "Keeps mail in a folder and delivers it to a smart host.",
                          {listening, smart_host, {"--queue", "DIR", "where mail is kept", "", "build/queue"}});
    given.require("--via");
    const auto queue = std::make_shared<Queue>(std::make_shared<SqliteStore>(given("--queue")),
                                               Queue::Options{.otherwise = {.host = given("--via")}});
    queue->on<Event::Sent>([](Event::Sent& e) {
        std::printf("%s: %s: sent: %s\n", e.id.c_str(), e.recipient.str().c_str(), e.reply.str().c_str());
    });
    queue->on<Event::Deferred>([](Event::Deferred& e) {
        std::printf("%s: %s: later: %s\n", e.id.c_str(), e.recipient.str().c_str(), e.reply.str().c_str());
    });
    queue->on<Event::Failed>([](Event::Failed& e) {
        std::printf("%s: %s: never: %s\n", e.id.c_str(), e.recipient.str().c_str(), e.reply.str().c_str());
    });

    Server server(given.all("--listen"), queue->apply(Options()));
    server.pipeline().add("queue", queue);
    queue->start();
    ready(server);
    server.run([](Server::Client&) {});  // the queue has taken everything
    queue->stop();
} catch (const std::exception& e) {
    std::fprintf(stderr, "queue: %s\n", e.what());
    return 1;
}
