// sink -- takes every mail: to nowhere, or to a file of its own with its envelope beside it.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <Net/SMTP/Server.hpp>
#include <Net/SMTP/Server/Plugins/Transcript.hpp>

#include "arguments.hpp"
#include "envelope.hpp"
#include "security.hpp"

using namespace Net::SMTP;

// Where the bodies go that nobody wants to see.
struct Discard : Sink {
    void write(std::string_view) override {}
};

void is_mode(const std::string& text) {
    if (text != "thread" && text != "process") throw std::invalid_argument("neither thread nor process");
}

int main(int argc, char** argv) try {
    const Arguments given(
        argc, argv, "Takes every mail from everybody: to nowhere, or durably to files.",
        SecurityFiles::options(
            {listening,
             {"--dir", "DIR", "keeps each mail there, as ID.eml, and its envelope as ID.json"},
             own_name,
             max_size,
             {"--limit", "N", "sessions at once; 0: any number", "", "0", is_number},
             {"--mode", "MODE", "of a session: thread or process", "", "thread", is_mode},
             {"--time-out", "SECONDS", "for a command or a handshake; texts come at 128 octets a second or faster", "",
              "", is_number},
             {"--keep", "", "keeps each mail in memory while it comes, though it goes to nowhere"},
             {"--lmtp", "", "speaks LMTP"},
             {"--require-auth", "", "takes no mail before AUTH", "--auth-file"},
             {"--transcript", "", "shows what is said, on standard error"}}));
    SecurityFiles security(given);
    rlimit files{};
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    const auto dir = given("--dir");
    Options options{.hostname = given("--hostname"), .max_message_size = given.number("--max-size"), .max_commands = 0};
    if (given.has("--lmtp")) options.protocol = Protocol::lmtp;
    options.offer.smtputf8 = options.offer.dsn = options.offer.binary_mime = true;
    if (!dir.empty()) options.spool_dir = dir;
    if (given.has("--time-out"))
        options.command_timeout = options.handshake_timeout = options.data_grace =
            std::chrono::seconds(given.number("--time-out"));
    security.apply(options, given);
    options.require_auth = given.has("--require-auth");

    Server server(SecurityFiles::addresses(given), options);
    if (dir.empty() && !given.has("--keep"))
        server.on<Event::Data>([nowhere = std::make_shared<Discard>()](Event::Data& e) { e.client.into(nowhere); });
    server.on<Event::Trouble>([](Event::Trouble& e) { std::fprintf(stderr, "trouble: %s\n", e.what.c_str()); });
    if (given.has("--transcript")) Transcript(stderr).listen(server.pipeline());
    ready(server);

    const auto mode = given("--mode") == "process" ? Server::Mode::process : Server::Mode::thread;
    if (mode == Server::Mode::thread) security.reload_on_hang_up();  // a process that forks has no other threads
    server.run(
        [&](Server::Client& client) {
            if (dir.empty()) return client.accept();
            const auto name = dir + '/' + client.MSG.id();
            client.MSG.save(name + ".eml");
            try {
                Message(envelope(client) + '\n').save(name + ".json");
            } catch (...) {
                unlink((name + ".eml").c_str());  // half of it is nothing
                client.reject({452, "4.3.1", "The envelope could not be stored"});
            }
        },
        {.mode = mode, .limit = given.number("--limit")});
} catch (const std::exception& e) {
    std::fprintf(stderr, "sink: %s\n", e.what());
    return 1;
}
