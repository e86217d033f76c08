// queue_server -- the least program around a Queue: takes every mail, and delivers to one next hop or waits. It writes
// no log, so that the queue alone is measured.
#include <sys/resource.h>

#include <Net/SMTP/Relay/Queue.hpp>
#include <Net/SMTP/Server.hpp>

#include "../../examples/arguments.hpp"
#include "log_store.hpp"
#include "open_store.hpp"

using namespace Net::SMTP;

static std::shared_ptr<Store> store_at(const std::string& place) {
    if (place.starts_with("log:")) return std::make_shared<LogStore>(place.substr(4));
    return open_store(place);
}

int main(int argc, char** argv) try {
    const Arguments given(argc, argv, "Queues every mail.",
                          {{"--listen", "HOST:PORT", "where to listen", "", "127.0.0.1:0", is_address},
                           {"--queue", "PLACE", "where it keeps the mail: a folder, postgresql://..., or log:FILE, which only writes"},
                           {"--via", "HOST:PORT", "the next hop; without it everything waits", "", "", is_address},
                           {"--maxrelay", "N", "deliveries at once", "", "100", is_number},
                           {"--per-destination", "N", "of them to one", "", "20", is_number}});
    given.require("--queue");
    rlimit files{};
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    Queue::Options how;
    how.maxrelay = given.number("--maxrelay");
    how.per_destination = given.number("--per-destination");
    how.paused = !given.has("--via");
    if (given.has("--via")) how.otherwise.host = given("--via");

    const auto queue = std::make_shared<Queue>(store_at(given("--queue")), how);
    queue->on<Event::Trouble>([](Event::Trouble& e) { std::fprintf(stderr, "trouble: %s\n", e.what.c_str()); });
    Server server(given.all("--listen"), queue->apply({.hostname = "queue.example.org", .max_commands = 0}));
    server.pipeline().add("queue", queue);
    queue->start();
    ready(server);
    server.run([](Server::Client&) {});
    queue->stop();
} catch (const std::exception& e) {
    std::fprintf(stderr, "queue_server: %s\n", e.what());
    return 1;
}
