// own_verbs -- a verb, an EHLO keyword and a MAIL parameter of the program's own; SIGUSR1 sends all clients away.
#include <unistd.h>
#include <Net/SMTP/Server.hpp>
#include <mutex>
#include <set>
#include <thread>

#include "arguments.hpp"

using namespace Net::SMTP;

int main(int argc, char** argv) {
    const Arguments given(argc, argv, "Takes mail, and by its own verb XNOTE notes, which it prints.", {listening});
    sigset_t wanted;  // blocked before there are threads, for the one that waits for it
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &wanted, nullptr);

    std::mutex mutex;
    std::set<std::string> sessions;  // their ids: by them another thread reaches them

    Options options;
    options.own = {.verbs = {"XNOTE"}, .keywords = {"XNOTE"}, .mail_parameters = {"XPROJECT"}};
    options.reachable = true;  // by send_to_client()
    Server server(given.all("--listen"), options);

    server.on<Event::Command>([](Event::Command& e) {
        if (!same_text(Command::parse(e.line).name, "XNOTE")) return;  // then it is the server's
        e.client.data_mode();
        e.reply = {354, "", "A note, and behind it a line with a dot"};
    });
    server.on<Event::Text>([](Event::Text& e) {
        if (e.reply.positive()) e.client.MSG.write_to(STDOUT_FILENO);  // what it throws is 451
    });
    server.on<Event::Mail>([](Event::Mail& e) {
        for (const auto& p : e.sender.parameters)
            if (p.keyword == "XPROJECT" && p.value.empty()) e.reply = {501, "5.5.4", "Syntax: XPROJECT=name"};
    });
    server.on<Event::Connect>([&](Event::Connect& e) {
        const std::lock_guard lock(mutex);
        sessions.insert(e.client.id());
    });
    server.on<Event::Disconnect>([&](Event::Disconnect& e) {
        const std::lock_guard lock(mutex);
        sessions.erase(e.client.id());
    });
    const std::jthread dismissal([&](const std::stop_token& over) {
        for (const timespec second{1, 0}; !over.stop_requested();) {
            if (sigtimedwait(&wanted, nullptr, &second) != SIGUSR1) continue;
            const std::lock_guard lock(mutex);
            for (const auto& id : sessions) server.send_to_client(id, {421, "4.3.2", "Come again later"});
        }
    });
    ready(server);
    server.run([](Server::Client& client) { client.accept(); });
}
